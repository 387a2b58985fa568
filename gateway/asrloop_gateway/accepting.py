"""Accepts connections. Each counts from its first moment, TLS handshakes have a time limit, and a lack of descriptors is a pause
and one line in the log. asyncio's own server has none of these.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import math
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from asrloop_gateway import waiting
from asrloop_gateway.errors import LOG
from asrloop_gateway.logs import ADDRESS

_HANDSHAKE_SECONDS = 5.0
_FAREWELL_SECONDS = 10.0
"""Longest time to end TLS, with what is still unsent."""
_TLS_BYTES = 32 << 10
"""asyncio takes so much memory for each connection with TLS, 256 kB by default."""
_PAUSE_SECONDS = 1.0
"""Wait so long when the system has no descriptors or memory for a further connection; callers wait in the kernel's queue."""
_RESERVE = 16
"""One in so many connections is kept free, for those that are just ending."""
_QUIET_SECONDS = 60.0
"""Say it at most once in this time."""


class Acceptor:
    """Listening socket that passes on its connections, in the place of asyncio's Server."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        connections: set[Any],
        most: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        """`connections` are uvicorn's. When they come near to `most`, each further one ends the one that has waited longest for
        its caller; above twice as many they are closed unanswered."""
        self.sockets = [listener]
        self._listener, self._make_protocol, self._tls = listener, make_protocol, tls
        self._connections, self._most = connections, most
        self._said_at = -math.inf
        listener.setblocking(False)
        asyncio.sslproto.SSLProtocol.max_size = _TLS_BYTES
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Take no further connections."""
        self._accepting.cancel()
        self._accepting.add_done_callback(lambda _: self._listener.close())

    async def wait_closed(self) -> None:
        """Wait for the end of `close`."""
        await asyncio.wait({self._accepting})

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if time.monotonic() - self._said_at > _QUIET_SECONDS:
                    self._said_at = time.monotonic()
                    LOG.error("no connection can be accepted for now: %s. Raise the limit of open files.", error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if len(self._connections) >= self._most - 1 - self._most // _RESERVE:
                waiting.make_room()
            if len(self._connections) < 2 * self._most:
                entering = _Entering()
                self._connections.add(entering)
                waiting.begin(entering, entering.end)
                entering.task = asyncio.create_task(self._enter(connection, address[0], entering))
            else:
                connection.close()  # too many even to send an error to
            await asyncio.sleep(0)  # a waiting connection is accepted without a pause for others

    async def _enter(self, connection: socket.socket, address: str, entering: _Entering) -> None:
        ADDRESS.set(address)
        connection.setblocking(False)
        # Without it the body of a response waits for the receipt of its head, 40 ms. asyncio sets it on its own server's only.
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        limits = {"ssl_handshake_timeout": _HANDSHAKE_SECONDS, "ssl_shutdown_timeout": _FAREWELL_SECONDS}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make_protocol, connection, ssl=self._tls, **(limits if self._tls else {})
            )
        except OSError:
            pass  # no TLS, another version, or too slow: nobody to tell
        finally:
            waiting.over(entering)
            self._connections.discard(entering)


class _Entering:
    """Connection without a protocol, in uvicorn's set of connections."""

    task: asyncio.Task[None] | None = None
    transport: asyncio.Transport | None = None

    def shutdown(self) -> None:
        """End it when the gateway stops."""
        if self.task is not None:
            self.task.cancel()

    def end(self) -> bool:
        """End it for another one."""
        self.shutdown()
        return True


def listeners(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Return a listening socket for each address of `host`. Raises OSError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [
        socket.create_server(address, family=family, backlog=backlog)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found)
    ]
