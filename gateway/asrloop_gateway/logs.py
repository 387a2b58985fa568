"""The log: at most so many lines a minute that one caller causes, with a count of those left out."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar

ADDRESS = ContextVar[str | None]("ADDRESS", default=None)
"""Address of the caller that the running code works for; None for the gateway's own work."""
_LINES = 10
_SECONDS = 60.0
_IPV6_PREFIX = 64
"""One caller has at least so large a network."""


class FewFromOne(logging.Filter):
    """Passes `_LINES` records of a caller in `_SECONDS`. The last one says that more are left out, a later record how many were."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._counts: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written. The gateway's own always are."""
        # Callbacks of asyncio fail without their context.
        caller = _network(ADDRESS.get()) or ("asyncio" if record.name == "asyncio" else None)
        with self._lock:
            notes = self._notes()
            if caller is not None:
                count = self._counts[caller] = self._counts.get(caller, 0) + 1
                if count > _LINES:
                    return False
                if count == _LINES:
                    notes.append(f"further lines caused by {caller} are left out for up to {_SECONDS:.0f} s")
        if notes:
            record.msg, record.args = f"{record.getMessage()} ({'; '.join(notes)})", ()
        return True

    def _notes(self) -> list[str]:
        """Begin to count again when the time is over. Returns what was left out."""
        if self._clock() - self._began < _SECONDS:
            return []
        left_out = {caller: count - _LINES for caller, count in self._counts.items() if count > _LINES}
        self._began, self._counts = self._clock(), {}
        most = max(left_out, key=lambda caller: left_out[caller], default="")
        return [f"{sum(left_out.values())} lines were left out before, {left_out[most]} of {most}"] if left_out else []


def _network(address: str | None) -> str | None:
    try:
        parsed = ipaddress.ip_address(address) if address else None
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return address
