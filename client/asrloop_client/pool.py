"""The channels to one server: which call gets which, bounds, queue and ages. All in one asyncio loop; no I/O of its own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from asrloop_client.errors import ClientClosed
from asrloop_client.settings import PoolConfig

ConnectionT = TypeVar("ConnectionT")


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
        self._counts = PoolStats()

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
        self._counts.reused += least.served > 0
        least.in_flight += 1
        least.served += 1
        return least

    async def acquire(self) -> Member[ConnectionT]:
        """A member for one call, in the order of arrival; a cancelled wait leaves the queue."""
        member = self.take()
        if member is not None:
            return member
        self._counts.acquire_waits += 1
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

    def release(self, member: Member[ConnectionT], broken: bool = False, reuse: bool = True) -> None:
        """End one call on `member`, which takes no further one if `broken` or not to `reuse`; who waits longest gets its place."""
        member.in_flight -= 1
        member.idle_since = self._clock()
        if not member.retired and (broken or not reuse):
            member.retired = True
            self._counts.broken += broken
        self._drop_retired()
        self._serve_queue()

    def expire(self) -> None:
        """Close what has been idle too long."""
        until = self._clock() - self.config.idle_timeout
        self._counts.evicted += self._retire(lambda member: member.in_flight == 0 and member.idle_since <= until)

    def refill(self) -> list[ConnectionT]:
        """Open members up to `min_channels` and return their connections, for the caller to connect."""
        opened = []
        while not self._closed and len(self._members) < self.config.min_channels:
            opened.append(self._open().connection)
        self._serve_queue()
        return opened

    def lose(self, error: Exception) -> None:
        """The server is out: no open channel takes another call, and who waits is told `error`."""
        self._counts.broken += self._retire(lambda _: True)
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
        calls = [member.in_flight for member in list(self._members)]
        in_use = sum(map(bool, calls))
        return replace(self._counts, open=len(calls), in_use=in_use, calls=sum(calls), waiting=len(self._queue))

    def __repr__(self) -> str:
        stats = self.stats()
        bounds = f"{stats.open} of {self.config.max_channels} open, {stats.waiting} waiting"
        return f"{stats.in_use} in use, {stats.idle} idle, {bounds}{', closed' if self._closed else ''}"

    def _open(self) -> Member[ConnectionT]:
        member = Member(self._open_connection(), self._clock())
        self._members.append(member)
        self._counts.created += 1
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
