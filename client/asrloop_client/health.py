"""What the clients report about their servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asrloop_client.endpoints import Endpoint, EndpointStats


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


def endpoint_stats(endpoint: Endpoint[Any]) -> EndpointStats:
    """A snapshot of one server as the client sees it."""
    return EndpointStats(
        address=endpoint.address,
        healthy=endpoint.healthy,
        circuit=endpoint.breaker.state.value,
        in_flight=endpoint.in_flight,
        calls=endpoint.calls,
        failures=endpoint.failures,
        last_failure=endpoint.last_failure,
        pool=endpoint.pool.stats(),
    )
