"""The channels to one server: bounds, queue and ages, and which call gets which. One asyncio loop; no I/O of its own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Generic, TypeVar

from asrloop_client.errors import ClientClosed
from asrloop_client.settings import PoolConfig

ConnectionT = TypeVar("ConnectionT")


@dataclass(eq=False, slots=True)
class Member(Generic[ConnectionT]):
    """A channel of the pool and what the pool knows about it."""

    connection: ConnectionT
    idle_since: float
    in_flight: int = 0
    served: int = 0
    retired: bool = False
    """True when it gets no further call, and is closed when its last one ends."""


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
        self.members: list[Member[ConnectionT]] = []
        self.queue: deque[asyncio.Future[Member[ConnectionT]]] = deque()
        self._closed = False
        self.counts = dict.fromkeys(("created", "reused", "evicted", "broken", "acquire_waits"), 0)

    def take(self) -> Member[ConnectionT] | None:
        """Return a member for one call at once, or None when the call has to wait. `release` ends the call."""
        if self._closed:
            raise ClientClosed("the client is closed. Make a new one.")
        # Three cases: an idle member, the oldest first so that the others stay idle and expire; else room for a new one;
        # else the least busy that still has room.
        usable = (member for member in self.members if not member.retired)
        least = min(usable, key=attrgetter("in_flight"), default=None)
        if (least is None or least.in_flight) and len(self.members) < self.config.max_channels:
            least = self._open()
        if least is None or least.in_flight >= self.config.calls_per_channel:
            return None
        self.counts["reused"] += least.served > 0
        least.in_flight += 1
        least.served += 1
        return least

    async def acquire(self) -> Member[ConnectionT]:
        """Return a member for one call, in the order of arrival; a cancelled wait leaves the queue."""
        member = self.take()
        if member is not None:
            return member
        self.counts["acquire_waits"] += 1
        place: asyncio.Future[Member[ConnectionT]] = asyncio.get_running_loop().create_future()
        self.queue.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place in self.queue:
                self.queue.remove(place)
            elif place.done() and not place.cancelled() and place.exception() is None:
                self.release(place.result())
            raise

    def release(self, member: Member[ConnectionT], broken: bool = False, reuse: bool = True) -> None:
        """End one call on `member`, close it if `broken` or not to `reuse`, and serve the queue."""
        member.in_flight -= 1
        member.idle_since = self._clock()
        self.counts["broken"] += broken and not member.retired
        member.retired |= broken or not reuse
        self._drop_retired()
        self._serve_queue()

    def expire(self) -> None:
        """Close members that were idle for too long."""
        until = self._clock() - self.config.idle_timeout
        self.counts["evicted"] += self._retire(lambda member: member.in_flight == 0 and member.idle_since <= until)

    def refill(self) -> list[ConnectionT]:
        """Open members up to `min_channels` and return their connections, for the caller to connect."""
        opened = []
        while not self._closed and len(self.members) < self.config.min_channels:
            opened.append(self._open().connection)
        self._serve_queue()
        return opened

    def lose(self, error: Exception) -> None:
        """Retire all members because the server is out, and raise `error` in calls that wait."""
        self.counts["broken"] += self._retire(lambda _: True)
        while self.queue:
            place = self.queue.popleft()
            if not place.done():
                place.set_exception(error)

    def close(self) -> None:
        """Close all channels and refuse all further calls."""
        self._closed = True
        self.lose(ClientClosed("the client was closed while the call waited."))
        for member in self.members:
            self._close_connection(member.connection)
        self.members.clear()

    def _open(self) -> Member[ConnectionT]:
        member = Member(self._open_connection(), self._clock())
        self.members.append(member)
        self.counts["created"] += 1
        return member

    def _retire(self, condition: Callable[[Member[ConnectionT]], bool]) -> int:
        chosen = [member for member in self.members if not member.retired and condition(member)]
        for member in chosen:
            member.retired = True
        self._drop_retired()
        return len(chosen)

    def _drop_retired(self) -> None:
        for member in [each for each in self.members if each.retired and each.in_flight == 0]:
            self.members.remove(member)
            self._close_connection(member.connection)

    def _serve_queue(self) -> None:
        while self.queue and not self._closed:
            if self.queue[0].done():  # cancelled, and not yet removed by its owner
                self.queue.popleft()
                continue
            member = self.take()
            if member is None:
                return
            self.queue.popleft().set_result(member)
