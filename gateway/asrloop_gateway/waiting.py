"""Connections on which a caller has to send: handshakes, heads, pauses. When there are too many, the oldest of them ends.

Without it some thousand connections that send nothing, opened again as they end, keep everybody else out.
"""

from __future__ import annotations

from collections.abc import Callable

_waiting: dict[object, Callable[[], bool]] = {}
"""What ends each, in the order in which they began to wait."""


def begin(connection: object, end: Callable[[], bool]) -> None:
    """Note that `connection` waits from now on. `end` ends it, unless it returns False: it has bytes to send."""
    _waiting.pop(connection, None)
    _waiting[connection] = end


def over(connection: object) -> None:
    """Note that `connection` does not wait any more."""
    _waiting.pop(connection, None)


def make_room() -> None:
    """End the connection that has waited longest, if there is one."""
    for connection, end in _waiting.items():
        if end():
            over(connection)
            return
