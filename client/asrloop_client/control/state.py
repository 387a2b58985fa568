"""The state of servers and their pools, as the client sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asrloop_client.endpoints import Endpoint
    from asrloop_client.pool import Pool


@dataclass
class PoolStats:
    """Counts since the pool was made, and the state now."""

    created: int = 0
    reused: int = 0
    evicted: int = 0
    """Closed because idle."""
    broken: int = 0
    """Closed because a call on them lost its connection, or the server went out."""
    acquire_waits: int = 0
    open: int = 0
    in_use: int = 0
    calls: int = 0
    waiting: int = 0

    @property
    def idle(self) -> int:
        """Open channels without a call."""
        return self.open - self.in_use


@dataclass
class ServerState:
    """One server as the client sees it; from `health()`, as it answered now."""

    address: str
    live: bool
    """False when the server is out and gets no calls."""
    models: dict[str, bool]
    """True for models that were loaded when last asked."""
    error: str | None
    """The last failure, of a call or of the health check."""
    calls: int
    pool: PoolStats
    seconds: float | None = None
    """Time of the transcription of a deep health check."""

    @property
    def ready(self) -> bool:
        """True when transcriptions can be expected to work."""
        return self.live and all(self.models.values())

    def __str__(self) -> str:
        pool = self.pool
        return f"{self.address}: {pool.in_use} in use, {pool.idle} idle, {pool.open} open, {pool.waiting} waiting"


def state_of(endpoint: Endpoint) -> ServerState:
    """Return a snapshot of one server; from any thread."""
    models = {model: endpoint.is_in and bool(loaded) for model, loaded in endpoint.loaded.items()}
    pool = stats_of(endpoint.pool)
    return ServerState(endpoint.address, endpoint.is_in, models, endpoint.last_failure, endpoint.calls, pool)


def stats_of(pool: Pool[Any]) -> PoolStats:
    """Return counts and state of a pool; from any thread."""
    calls = [member.in_flight for member in list(pool.members)]
    return PoolStats(
        **pool.counts, open=len(calls), in_use=sum(map(bool, calls)), calls=sum(calls), waiting=len(pool.queue)
    )
