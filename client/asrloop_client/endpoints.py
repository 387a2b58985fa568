"""Which server gets a call: the least busy healthy one whose circuit lets it through. No I/O and no waiting."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from asrloop_client.breaker import Breaker
from asrloop_client.errors import AsrError, CircuitOpen, InvalidConfig, ServerGone
from asrloop_client.pool_policy import PoolStats

PoolT = TypeVar("PoolT")


class Endpoint(Generic[PoolT]):
    """One server: its address `host:port`, its pool, its circuit breaker, and what is known about its health."""

    def __init__(self, address: str, pool: PoolT, breaker: Breaker) -> None:
        self.address = address
        self.pool = pool
        self.breaker = breaker
        self.healthy = True
        """False sets it aside until a probe of the model succeeds."""
        self.in_flight = 0
        self.calls = 0
        self.failures = 0
        self.last_failure: str | None = None
        """The message only: an exception would keep its traceback alive, and with it the failed call and its socket."""

    def __repr__(self) -> str:
        health = "healthy" if self.healthy else "set aside"
        return f"<Endpoint {self.address}: {health}, circuit {self.breaker.state.value}, {self.in_flight} in flight>"


@dataclass(frozen=True)
class EndpointStats:
    """One server as the client sees it."""

    address: str
    healthy: bool
    circuit: str
    in_flight: int
    calls: int
    failures: int
    last_failure: str | None
    pool: PoolStats

    @classmethod
    def of(cls, endpoint: Endpoint[Any]) -> EndpointStats:
        """A snapshot of `endpoint`."""
        return cls(
            address=endpoint.address,
            healthy=endpoint.healthy,
            circuit=endpoint.breaker.state.value,
            in_flight=endpoint.in_flight,
            calls=endpoint.calls,
            failures=endpoint.failures,
            last_failure=endpoint.last_failure,
            pool=endpoint.pool.stats(),
        )


@dataclass(frozen=True)
class Permit(Generic[PoolT]):
    """One attempt's right to call `endpoint`; ended by exactly one method of Endpoints."""

    endpoint: Endpoint[PoolT]
    circuit: int


class Endpoints(Generic[PoolT]):
    """The servers of one client."""

    def __init__(self, endpoints: Sequence[Endpoint[PoolT]]) -> None:
        if not endpoints:
            raise InvalidConfig("no server was given: give one address `host:port` or a list of them")
        self._endpoints = tuple(endpoints)
        self._lock = threading.Lock()
        self._turn = 0

    def __iter__(self) -> Iterator[Endpoint[PoolT]]:
        return iter(self._endpoints)

    def choose(self, tried: Collection[str]) -> Permit[PoolT]:
        """A permit for the best server: healthy before set aside, untried before tried, then the least in flight.

        Servers that are set aside are still used when there is no other: a probe may be wrong, and the call's own error
        says more. Raises CircuitOpen when no circuit lets the call through.
        """
        with self._lock:
            self._turn += 1
            count = len(self._endpoints)
            # Rotated, so that ties go round; the sort is stable.
            rotated = [self._endpoints[(self._turn + i) % count] for i in range(count)]
            rotated.sort(key=lambda each: (not each.healthy, each.address in tried, each.in_flight))
            for endpoint in rotated:
                circuit = endpoint.breaker.allow()
                if circuit is not None:
                    endpoint.in_flight += 1
                    endpoint.calls += 1
                    return Permit(endpoint, circuit)
        raise self._all_open()

    def has_untried(self, tried: Collection[str]) -> bool:
        """Whether a healthy server is left that this call has not tried."""
        return any(each.healthy and each.address not in tried for each in self._endpoints)

    def any_healthy(self) -> bool:
        """Whether a server is not set aside."""
        return any(each.healthy for each in self._endpoints)

    def none_reached(self) -> ServerGone:
        """The error when no server could be connected."""
        return ServerGone("; ".join(str(each.last_failure) for each in self._endpoints))

    def succeeded(self, permit: Permit[PoolT]) -> None:
        """The server answered."""
        permit.endpoint.breaker.succeeded(permit.circuit)
        self._end(permit)

    def failed(self, permit: Permit[PoolT], error: AsrError) -> None:
        """The attempt raised `error`; only some errors count against the server."""
        endpoint = permit.endpoint
        with self._lock:
            endpoint.failures += 1
            endpoint.last_failure = str(error)
            if isinstance(error, ServerGone):
                endpoint.healthy = False
        if error.counts_against_server:
            endpoint.breaker.failed(permit.circuit)
        elif error.is_answer:
            endpoint.breaker.succeeded(permit.circuit)
        else:
            endpoint.breaker.abandoned(permit.circuit)
        self._end(permit)

    def abandoned(self, permit: Permit[PoolT]) -> None:
        """The attempt was cancelled."""
        permit.endpoint.breaker.abandoned(permit.circuit)
        self._end(permit)

    def _end(self, permit: Permit[PoolT]) -> None:
        with self._lock:
            permit.endpoint.in_flight -= 1

    def _all_open(self) -> CircuitOpen:
        wait = min(each.breaker.retry_after for each in self._endpoints)
        last = next((each.last_failure for each in self._endpoints if each.last_failure is not None), None)
        addresses = ", ".join(each.address for each in self._endpoints)
        return CircuitOpen(
            f"{addresses}: left alone after repeated failures, the last one: {last} "
            f"Tried again in {wait:.1f} s; call later."
        )
