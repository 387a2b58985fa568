"""The nouns of a pool: a channel and what the pool knows of it, a waiting call, and the counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

ConnectionT = TypeVar("ConnectionT")


class Member(Generic[ConnectionT]):
    """A channel of the pool and what the pool knows of it."""

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
