"""Keeps the servers' pools connected and checks their health, as series of steps like those of a call (see call)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tritonclient.grpc import service_pb2

from asrloop_client.config import ClientConfig
from asrloop_client.endpoints import Endpoint, Endpoints
from asrloop_client.errors import AsrError, ModelNotReady

PoolT = TypeVar("PoolT")


@dataclass(frozen=True)
class ServerHealth:
    """One server's answer to a health check now."""

    address: str
    live: bool
    """The server process answers."""
    models: dict[str, bool]
    """Readiness per model."""
    error: str | None
    """Why it could not be asked."""

    @property
    def ready(self) -> bool:
        """Whether transcriptions can be expected to work."""
        return self.live and all(self.models.values())


@dataclass(frozen=True)
class ModelStatistics:
    """One model's counters since its server started, by Triton's statistics extension; times are mean seconds."""

    address: str
    model: str
    successes: int
    failures: int
    executions: int
    mean_request: float
    mean_queue: float
    mean_compute: float

    @classmethod
    def of(cls, address: str, entry: Any) -> ModelStatistics:
        """From one `ModelStatistics` message."""
        stats = entry.inference_stats
        successes = stats.success.count

        def mean(duration: Any) -> float:
            return float(duration.ns) / 1e9 / duration.count if duration.count else 0.0

        return cls(
            address=address,
            model=entry.name,
            successes=successes,
            failures=stats.fail.count,
            executions=entry.execution_count,
            mean_request=mean(stats.success),
            mean_queue=mean(stats.queue),
            mean_compute=mean(stats.compute_infer),
        )


@dataclass(frozen=True)
class Ask(Generic[PoolT]):
    """Call `method` on a channel of `endpoint` and send the response."""

    endpoint: Endpoint[PoolT]
    method: str
    request: Any
    probe: bool = False
    """Only on an idle channel, outside the pool's counts; the response is None while all are busy."""


@dataclass(frozen=True)
class CloseExpired(Generic[PoolT]):
    """Close the endpoint's channels that have been idle or alive too long."""

    endpoint: Endpoint[PoolT]


@dataclass(frozen=True)
class Refill(Generic[PoolT]):
    """Open channels up to the pool's minimum, and connect the new ones."""

    endpoint: Endpoint[PoolT]


Step = Ask[PoolT] | CloseExpired[PoolT] | Refill[PoolT]


class Upkeep(Generic[PoolT]):
    """The series for one client's servers."""

    def __init__(self, endpoints: Endpoints[PoolT], config: ClientConfig) -> None:
        self._endpoints = endpoints
        self._config = config

    def prewarm(self) -> Generator[Step[PoolT], Any, None]:
        """Connect to every server. Raises ServerGone if none could be reached."""
        for endpoint in self._endpoints:
            yield from self._refill(endpoint)
        if not self._endpoints.any_healthy():
            raise self._endpoints.none_reached()

    def maintain(self) -> Generator[Step[PoolT], Any, None]:
        """Close what has expired, probe the model, and refill the pools of the servers that answer."""
        for endpoint in self._endpoints:
            yield CloseExpired(endpoint)
            yield from self._probe(endpoint)
            if endpoint.healthy:
                yield from self._refill(endpoint)

    def health(self) -> Generator[Step[PoolT], Any, list[ServerHealth]]:
        """What every server says now."""
        found = []
        for endpoint in self._endpoints:
            found += [(yield from self._health(endpoint))]
        return found

    def model_statistics(self) -> Generator[Step[PoolT], Any, list[ModelStatistics]]:
        """Triton's counters of all models of all servers."""
        found = []
        for endpoint in self._endpoints:
            response = yield Ask(endpoint, "ModelStatistics", service_pb2.ModelStatisticsRequest())
            found += [ModelStatistics.of(endpoint.address, entry) for entry in response.model_stats]
        return found

    def _refill(self, endpoint: Endpoint[PoolT]) -> Generator[Step[PoolT], Any, None]:
        try:
            yield Refill(endpoint)
        except AsrError as error:
            endpoint.healthy = False
            endpoint.last_failure = str(error)

    def _probe(self, endpoint: Endpoint[PoolT]) -> Generator[Step[PoolT], Any, None]:
        # The model's readiness, not the server's: that one stays true when the model's process has died.
        request = service_pb2.ModelReadyRequest(name=self._config.model)
        try:
            response = yield Ask(endpoint, "ModelReady", request, probe=True)
        except AsrError as error:
            endpoint.healthy = error.is_answer
            return
        # No response: all channels are busy, and their calls show whether the server works.
        if response is not None:
            endpoint.healthy = response.ready

    def _health(self, endpoint: Endpoint[PoolT]) -> Generator[Step[PoolT], Any, ServerHealth]:
        models = dict.fromkeys((self._config.model, self._config.file_model), False)
        live = False
        try:
            live = (yield Ask(endpoint, "ServerLive", service_pb2.ServerLiveRequest())).live
            for name in models:
                try:
                    models[name] = (yield Ask(endpoint, "ModelReady", service_pb2.ModelReadyRequest(name=name))).ready
                except ModelNotReady:
                    models[name] = False
        except AsrError as error:
            return ServerHealth(endpoint.address, live, models, str(error))
        return ServerHealth(endpoint.address, live, models, None)
