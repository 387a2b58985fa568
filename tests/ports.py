"""Ports for the servers that tests start.

They lie below those that the system gives to connections: while a server starts or is down, no connection takes its port, and no
client that tries again and again reaches itself there. No other worker of the run gets the same port.
"""

import os
import random
import socket
from collections.abc import Iterator

FIRST, LAST = 12_000, 32_000
WORKERS = 4


def _candidates() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    mine = range(FIRST + worker, LAST, WORKERS)
    start = random.SystemRandom().randrange(len(mine))  # another run on this machine begins elsewhere
    while True:
        start = (start + 1) % len(mine)
        yield mine[start]


_next = _candidates()


def free_ports(count: int = 3) -> list[int]:
    """Ports of the loopback that nobody listens on, none of them given before."""
    found: list[int] = []
    while len(found) < count:
        port = next(_next)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found
