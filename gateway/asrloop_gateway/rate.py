"""The rate limit: how many requests a minute one caller may make, and when a refused one may come again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_MINUTE = 60.0


class _Caller:
    """One caller's requests of the last minute."""

    def __init__(self) -> None:
        self.taken: deque[float] = deque()
        """Moments of the requests, in order."""
        self.promised = 0
        """Refused requests that were told when the first so many of these are a minute old."""


class RateLimit:
    """Takes at most `most` requests in any minute from each caller.

    Each refused request is told a moment of its own at which one of the requests before it is a minute old, so that refused
    callers do not come back together, only to be refused again.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._clock = clock
        self._callers: dict[str, _Caller] = {}
        self._swept_at = clock()

    def wait(self, name: str) -> float:
        """Count a request of the caller `name`. Returns 0, or the seconds after which a refused one may come again."""
        now = self._clock()
        self._sweep(now)
        caller = self._callers.setdefault(name, _Caller())
        while caller.taken and caller.taken[0] <= now - _MINUTE:
            caller.taken.popleft()
            caller.promised = max(0, caller.promised - 1)
        if len(caller.taken) < self.most:
            caller.taken.append(now)
            return 0.0
        # Who is refused when all moments are promised shares one: nobody is told to wait for more than a minute.
        moment = caller.taken[caller.promised % self.most] + _MINUTE
        caller.promised += 1
        return moment - now

    def _sweep(self, now: float) -> None:
        """Forget callers who made no request for a minute."""
        if now - self._swept_at < _MINUTE:
            return
        self._swept_at = now
        self._callers = {name: one for name, one in self._callers.items() if one.taken[-1] > now - _MINUTE}
