"""Which call gets which channel: bounds, queue and ages of one server's pool, without I/O and without waiting.

ChannelPool (threads) and AsyncChannelPool (asyncio) put the waiting around it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from asrloop_client.config import PoolConfig
from asrloop_client.errors import ClientClosed

ConnectionT = TypeVar("ConnectionT")


class Member(Generic[ConnectionT]):
    """A channel of the pool and what the pool knows about it."""

    __slots__ = ("connection", "idle_since", "in_flight", "opened_at", "retired", "served")

    def __init__(self, connection: ConnectionT, now: float) -> None:
        self.connection = connection
        self.opened_at = now
        self.idle_since = now
        self.in_flight = 0
        self.served = 0
        self.retired = False
        """Takes no further call, and is closed when its last one ends."""

    def is_idle(self) -> bool:
        """Whether no call is on it."""
        return self.in_flight == 0

    def has_been_idle(self, now: float, seconds: float) -> bool:
        """Whether it has been idle for `seconds` or longer."""
        return self.in_flight == 0 and now - self.idle_since >= seconds

    def is_aged(self, now: float, max_age: float | None) -> bool:
        """Whether it was opened `max_age` seconds ago or earlier."""
        return max_age is not None and now - self.opened_at >= max_age


class Place(Generic[ConnectionT]):
    """One waiting call: unanswered, or answered with a member or a failure."""

    __slots__ = ("failure", "member", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.member: Member[ConnectionT] | None = None
        self.failure: Exception | None = None
        """Set instead of `member` when the pool was closed, or a channel could not be made, while the call waited."""

    @property
    def answered(self) -> bool:
        """Whether there is a result."""
        return self.member is not None or self.failure is not None

    def result(self) -> Member[ConnectionT]:
        """The member, or raises the failure; only when answered."""
        if self.failure is not None:
            raise self.failure
        if self.member is None:
            raise AssertionError("an answered place has a member or a failure")
        return self.member


@dataclass(frozen=True)
class PoolStats:
    """Counts since the pool was made, and the state now."""

    created: int
    reused: int
    evicted: int
    """Closed because idle or aged."""
    broken: int
    """Closed because a call on them lost its connection."""
    acquire_waits: int
    timeouts: int
    open: int
    in_use: int
    idle: int
    calls: int
    waiting: int


class PoolPolicy(Generic[ConnectionT]):
    """The state of one pool.

    Invariants, under any interleaving: at most `max_channels` members are open, retired ones included; none has more
    than `calls_per_channel` calls; nobody waits while there is room. Methods that take members out return their
    connections, which the caller closes outside the lock.
    """

    def __init__(
        self,
        config: PoolConfig,
        open_connection: Callable[[], ConnectionT],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._open_connection = open_connection
        self._clock = clock
        self._lock = threading.Lock()
        # The mutable state; changed only with the lock held.
        self._members: list[Member[ConnectionT]] = []
        self._queue: deque[Place[ConnectionT]] = deque()
        self._closed = False
        self._created = self._reused = self._evicted = self._broken = self._waits = self._timeouts = 0

    def take(self) -> Member[ConnectionT] | None:
        """A member for one call at once, or None when the call has to queue."""
        with self._lock:
            self._check_open()
            # Nobody waits while there is room, so this call passes no other.
            return self._take()

    def queue_up(self, wake: Callable[[], None]) -> Place[ConnectionT]:
        """Wait in the order of arrival; `wake()` is called, with the lock held, once the place is answered."""
        place: Place[ConnectionT] = Place(wake)
        with self._lock:
            self._check_open()
            self._waits += 1
            self._queue.append(place)
            # A member may have come free since `take` said None.
            self._serve_queue()
        return place

    def take_for_probe(self) -> Member[ConnectionT] | None:
        """An idle member, outside the counts of use, or a new one below `min_channels`; None while all are busy."""
        with self._lock:
            self._check_open()
            member = next((each for each in self._members if each.is_idle() and not each.retired), None)
            if member is None and len(self._members) < self.config.min_channels:
                member = self._open()
            if member is not None:
                member.in_flight += 1
            return member

    def give_up(self, place: Place[ConnectionT]) -> bool:
        """Leave the queue after a timeout. False if the place was answered in the meantime: its result counts."""
        with self._lock:
            if place.answered:
                return False
            self._queue.remove(place)
            self._timeouts += 1
            return True

    def release(self, member: Member[ConnectionT], broken: bool = False) -> list[ConnectionT]:
        """End one call on `member`; the call that has waited longest gets its channel."""
        with self._lock:
            member.in_flight -= 1
            now = self._clock()
            if broken and not member.retired:
                member.retired = True
                self._broken += 1
            elif not member.retired and member.is_aged(now, self.config.max_age):
                member.retired = True
                self._evicted += 1
            elif not self.config.reuse:
                member.retired = True
            member.idle_since = now
            closing = self._drop_retired() if member.retired else []
            if self._queue:
                self._serve_queue()
            return closing

    def expire(self) -> list[ConnectionT]:
        """Take out idle members beyond `min_channels`, longest idle first, and aged ones."""
        with self._lock:
            now = self._clock()
            for member in self._members:
                if not member.retired and member.is_aged(now, self.config.max_age):
                    member.retired = True
                    self._evicted += 1
            staying = sum(not member.retired for member in self._members)
            for member in sorted(self._members, key=lambda member: member.idle_since):
                if staying <= self.config.min_channels:
                    break
                if not member.retired and member.has_been_idle(now, self.config.idle_timeout):
                    member.retired = True
                    self._evicted += 1
                    staying -= 1
            closing = self._drop_retired()
            self._serve_queue()
            return closing

    def refill(self) -> list[ConnectionT]:
        """Open members up to `min_channels` and return their connections, for the caller to connect."""
        with self._lock:
            if self._closed:
                return []
            opened = []
            while len(self._members) < self.config.min_channels:
                opened.append(self._open().connection)
            return opened

    def close(self) -> list[ConnectionT]:
        """Refuse all further calls, wake the waiting ones with ClientClosed, and return every connection."""
        with self._lock:
            self._closed = True
            closing = [member.connection for member in self._members]
            self._members.clear()
            while self._queue:
                self._answer(self._queue.popleft(), None, ClientClosed("the pool was closed while the call waited."))
            return closing

    def stats(self) -> PoolStats:
        """A consistent snapshot."""
        with self._lock:
            idle = sum(member.is_idle() for member in self._members)
            return PoolStats(
                created=self._created,
                reused=self._reused,
                evicted=self._evicted,
                broken=self._broken,
                acquire_waits=self._waits,
                timeouts=self._timeouts,
                open=len(self._members),
                in_use=len(self._members) - idle,
                idle=idle,
                calls=sum(member.in_flight for member in self._members),
                waiting=len(self._queue),
            )

    def __repr__(self) -> str:
        stats = self.stats()
        state = ", closed" if self._closed else ""
        return (
            f"{stats.in_use} in use, {stats.idle} idle, {stats.open} of {self.config.max_channels} open, "
            f"{stats.waiting} waiting{state}"
        )

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("the client is closed. Make a new one.")

    def _take(self) -> Member[ConnectionT] | None:
        """The least busy member, a new one before a shared one, None when the pool is full."""
        # Three cases: an idle member, the oldest first so that the others stay idle and expire; else room for a new one;
        # else the least busy that still has room.
        least: Member[ConnectionT] | None = None
        for member in self._members:
            if member.retired:
                continue
            if member.in_flight == 0:
                least = member
                break
            if least is None or member.in_flight < least.in_flight:
                least = member
        if (least is None or least.in_flight > 0) and len(self._members) < self.config.max_channels:
            least = self._open()
        if least is None or least.in_flight >= self.config.calls_per_channel:
            return None
        self._reused += least.served > 0
        least.in_flight += 1
        least.served += 1
        return least

    def _open(self) -> Member[ConnectionT]:
        member = Member(self._open_connection(), self._clock())
        self._members.append(member)
        self._created += 1
        return member

    def _serve_queue(self) -> None:
        while self._queue:
            try:
                member = self._take()
            except Exception as error:
                self._answer(self._queue.popleft(), None, error)
                continue
            if member is None:
                return
            self._answer(self._queue.popleft(), member, None)

    def _answer(self, place: Place[ConnectionT], member: Member[ConnectionT] | None, failure: Exception | None) -> None:
        place.member, place.failure = member, failure
        place.wake()

    def _drop_retired(self) -> list[ConnectionT]:
        gone = [member for member in self._members if member.retired and member.in_flight == 0]
        for member in gone:
            self._members.remove(member)
        return [member.connection for member in gone]
