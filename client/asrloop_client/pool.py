"""The channels to one server: which call gets which, bounds, queue and ages. All in one asyncio loop; no I/O of its own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from asrloop_client.errors import ClientClosed, require

ConnectionT = TypeVar("ConnectionT")


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Bounds of the channel pool of one server; times are seconds."""

    min_channels: int = 5
    """Channels opened and connected before the first request, and kept when idle."""
    max_channels: int = 50
    calls_per_channel: int = 1
    """Calls that share a channel at the same time; a further channel is opened first, up to max_channels."""
    acquire_timeout: float = 0.5
    """How long a call with `fail_fast` waits for a channel before it raises PoolExhausted; others wait until their deadline."""
    idle_timeout: float = 300.0
    """Channels idle for so long are closed, and replaced up to min_channels: what lies between forgets idle connections."""
    reuse: bool = True
    """False closes each channel after its one call. Used by `pooling=False`, then min_channels is 0."""

    def __post_init__(self) -> None:
        lowest = 1 if self.reuse else 0
        require(
            lowest <= self.min_channels <= self.max_channels,
            f"min_channels is {self.min_channels} and max_channels {self.max_channels}: "
            f"give {lowest} <= min_channels <= max_channels",
        )
        require(self.max_channels >= 1, f"max_channels is {self.max_channels}: give 1 or more")
        require(self.calls_per_channel >= 1, f"calls_per_channel is {self.calls_per_channel}: give 1 or more")
        require(self.acquire_timeout >= 0, f"acquire_timeout is {self.acquire_timeout} s: give 0 or more")
        require(self.idle_timeout > 0, f"idle_timeout is {self.idle_timeout} s: give more than 0")


ONE_CALL_PER_CHANNEL = PoolConfig(min_channels=0, max_channels=2**31, reuse=False)


class Member(Generic[ConnectionT]):
    """A channel of the pool and what the pool knows about it."""

    __slots__ = ("connection", "idle_since", "in_flight", "retired", "served")

    def __init__(self, connection: ConnectionT, now: float) -> None:
        self.connection = connection
        self.idle_since = now
        self.in_flight = 0
        self.served = 0
        self.retired = False
        """Takes no further call, and is closed when its last one ends."""


@dataclass(frozen=True)
class PoolStats:
    """Counts since the pool was made, and the state now."""

    created: int
    reused: int
    evicted: int
    """Closed because idle."""
    broken: int
    """Closed because a call on them lost its connection, or the server went out."""
    acquire_waits: int
    open: int
    in_use: int
    idle: int
    calls: int
    waiting: int


class Pool(Generic[ConnectionT]):
    """The channels of one server.

    Invariants: at most `max_channels` members are open, retired ones included; none has more than `calls_per_channel`
    calls; nobody waits while there is room. `close_connection` must not wait.
    """

    def __init__(
        self,
        config: PoolConfig,
        open_connection: Callable[[], ConnectionT],
        close_connection: Callable[[ConnectionT], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._open_connection = open_connection
        self._close_connection = close_connection
        self._clock = clock
        self._members: list[Member[ConnectionT]] = []
        self._queue: deque[asyncio.Future[Member[ConnectionT]]] = deque()
        self._closed = False
        self._created = self._reused = self._evicted = self._broken = self._waits = 0

    def take(self) -> Member[ConnectionT] | None:
        """A member for one call at once, or None when the call has to wait. Each is ended by one `release`."""
        if self._closed:
            raise ClientClosed("the client is closed. Make a new one.")
        # Three cases: an idle member, the oldest first so that the others stay idle and expire; else room for a new one;
        # else the least busy that still has room.
        least: Member[ConnectionT] | None = None
        for member in self._members:
            if not member.retired and (least is None or member.in_flight < least.in_flight):
                least = member
                if not member.in_flight:
                    break
        if (least is None or least.in_flight) and len(self._members) < self.config.max_channels:
            least = self._open()
        if least is None or least.in_flight >= self.config.calls_per_channel:
            return None
        self._reused += least.served > 0
        least.in_flight += 1
        least.served += 1
        return least

    async def acquire(self) -> Member[ConnectionT]:
        """A member for one call, in the order of arrival; a cancelled wait leaves the queue."""
        member = self.take()
        if member is not None:
            return member
        self._waits += 1
        place: asyncio.Future[Member[ConnectionT]] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place in self._queue:
                self._queue.remove(place)
            elif place.done() and not place.cancelled() and place.exception() is None:
                self.release(place.result())
            raise

    def release(self, member: Member[ConnectionT], broken: bool = False) -> None:
        """End one call on `member`; whoever has waited longest gets its place."""
        member.in_flight -= 1
        member.idle_since = self._clock()
        if not member.retired and (broken or not self.config.reuse):
            member.retired = True
            self._broken += broken
        self._drop_retired()
        self._serve_queue()

    def expire(self) -> None:
        """Close what has been idle too long."""
        until = self._clock() - self.config.idle_timeout
        self._evicted += self._retire(lambda member: member.in_flight == 0 and member.idle_since <= until)

    def refill(self) -> list[ConnectionT]:
        """Open members up to `min_channels` and return their connections, for the caller to connect."""
        opened = []
        while not self._closed and len(self._members) < self.config.min_channels:
            opened.append(self._open().connection)
        self._serve_queue()
        return opened

    def lose(self, error: Exception) -> None:
        """The server is out: no open channel takes another call, and who waits is told `error`."""
        self._broken += self._retire(lambda _: True)
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_exception(error)

    def close(self) -> None:
        """Close all channels and refuse all further calls."""
        self._closed = True
        self.lose(ClientClosed("the client was closed while the call waited."))
        for member in self._members:
            self._close_connection(member.connection)
        self._members.clear()

    def stats(self) -> PoolStats:
        """Counts and state; from any thread."""
        members = list(self._members)
        idle = sum(member.in_flight == 0 for member in members)
        return PoolStats(
            created=self._created,
            reused=self._reused,
            evicted=self._evicted,
            broken=self._broken,
            acquire_waits=self._waits,
            open=len(members),
            in_use=len(members) - idle,
            idle=idle,
            calls=sum(member.in_flight for member in members),
            waiting=len(self._queue),
        )

    def __repr__(self) -> str:
        stats = self.stats()
        bounds = f"{stats.open} of {self.config.max_channels} open, {stats.waiting} waiting"
        return f"{stats.in_use} in use, {stats.idle} idle, {bounds}{', closed' if self._closed else ''}"

    def _open(self) -> Member[ConnectionT]:
        member = Member(self._open_connection(), self._clock())
        self._members.append(member)
        self._created += 1
        return member

    def _retire(self, condition: Callable[[Member[ConnectionT]], bool]) -> int:
        chosen = [member for member in self._members if not member.retired and condition(member)]
        for member in chosen:
            member.retired = True
        self._drop_retired()
        return len(chosen)

    def _drop_retired(self) -> None:
        for member in [each for each in self._members if each.retired and each.in_flight == 0]:
            self._members.remove(member)
            self._close_connection(member.connection)

    def _serve_queue(self) -> None:
        while self._queue and not self._closed:
            if self._queue[0].done():  # cancelled, and not yet removed by its owner
                self._queue.popleft()
                continue
            member = self.take()
            if member is None:
                return
            self._queue.popleft().set_result(member)
