"""Servers that died while they had a call: it may be what ends them, and must not go on to all the others.

All calls that a dying server had are suspects. A suspect begins where no other has just begun, so that it does not share the blame
for what another one does, and a call is given up when two servers died with it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from asrloop_client.errors import ServersDied

_MOST = 2
_APART_SECONDS = 5.0
"""A suspect has a server for at most so long before the next suspect begins there."""


@dataclass
class Deaths:
    """Deaths of servers, or of one that started again, that had the same call."""

    servers: list[str] = field(default_factory=list)
    lasted: float = 0.0
    """Seconds after which the last one died."""

    def __bool__(self) -> bool:
        """True for a suspect."""
        return bool(self.servers)

    def add(self, server: str, lasted: float) -> None:
        """Note that `server` died `lasted` s after it got the call. Raises ServersDied when it was the second one."""
        if lasted > self._bearable:
            self.servers.clear()
        self.servers.append(f"{server} after {lasted:.1f} s")
        self.lasted = lasted
        if len(self.servers) >= _MOST:
            lost = ", ".join(self.servers)
            raise ServersDied(
                f"[servers_died] the connection broke twice while a server had this request: {lost}. It is not sent again, as it "
                "may be what ends the servers. Look into their logs for a process that died. If something else ended them, call "
                "again; if not, leave this audio out, and report it."
            )

    def trial_until(self) -> float:
        """Return the time, by time.monotonic(), until which no other suspect should begin where this one begins now."""
        return time.monotonic() + min(_APART_SECONDS, self._bearable)

    @property
    def _bearable(self) -> float:
        """Seconds after which a server that still lives was not ended by what ended the last one."""
        return 2 * self.lasted + 2
