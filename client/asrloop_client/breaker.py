"""A circuit breaker for one server: closed, open after consecutive failures, half open after a while.

No I/O and no waiting; the clock is injected.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable

from asrloop_client.config import BreakerConfig


class BreakerState(enum.Enum):
    """CLOSED lets every call through, OPEN none, HALF_OPEN a few probes."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """Gives permits to calls and is told how each ended.

    A permit is the number of the period in which it was given. What a call from an earlier period reports is
    ignored: a slow failure from before cannot reopen the circuit, nor a slow success close it.
    """

    def __init__(self, config: BreakerConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._period = 0
        self._failures = 0
        self._opened_at = 0.0
        self._probing = 0
        self._passed = 0

    @property
    def state(self) -> BreakerState:
        """The state now; an open circuit whose time has passed reads as half open."""
        with self._lock:
            if self._state is BreakerState.OPEN and self._remaining() <= 0:
                return BreakerState.HALF_OPEN
            return self._state

    @property
    def retry_after(self) -> float:
        """Seconds until the next probe is let through; 0 unless open."""
        with self._lock:
            return max(0.0, self._remaining()) if self._state is BreakerState.OPEN else 0.0

    def allow(self) -> int | None:
        """A permit for one call, or None. Each permit ends in one `succeeded`, `failed` or `abandoned`."""
        with self._lock:
            if self._state is BreakerState.OPEN and self._remaining() <= 0:
                self._enter(BreakerState.HALF_OPEN)
            if self._state is BreakerState.OPEN:
                return None
            if self._state is BreakerState.HALF_OPEN:
                if self._probing + self._passed >= self._config.probes:
                    return None
                self._probing += 1
            return self._period

    def succeeded(self, permit: int) -> None:
        """The server answered."""
        with self._lock:
            if permit != self._period:
                return
            self._failures = 0
            if self._state is BreakerState.HALF_OPEN:
                self._probing -= 1
                self._passed += 1
                if self._passed >= self._config.probes:
                    self._enter(BreakerState.CLOSED)

    def failed(self, permit: int) -> None:
        """The server did not answer, or failed."""
        with self._lock:
            if permit != self._period:
                return
            self._failures += 1
            if self._state is BreakerState.HALF_OPEN or self._failures >= self._config.failures:
                self._enter(BreakerState.OPEN)
                self._opened_at = self._clock()

    def abandoned(self, permit: int) -> None:
        """The call ended and says nothing about the server."""
        with self._lock:
            if permit == self._period and self._state is BreakerState.HALF_OPEN:
                self._probing -= 1

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._period += 1
        self._failures = self._probing = self._passed = 0

    def _remaining(self) -> float:
        return self._opened_at + self._config.open_seconds - self._clock()
