"""uvicorn with what it lacks for strangers: limits on the head of a request, and an end that lets callers have their answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asrloop_gateway.app import make_app
from asrloop_gateway.gateway import Gateway
from asrloop_gateway.settings import Settings

_HEAD_SECONDS = 10.0
_HEAD_BYTES = 64 << 10
_UNWANTED_SECONDS = 5.0
_MESSAGE_BYTES = 4 << 20
"""Of a WebSocket: a minute of 24 kHz in base64."""
_CLOSE_SECONDS = 2


class _Protocol(HttpToolsProtocol):
    """Cuts a connection whose request line and headers take too long or too many bytes, and a body that nobody wants any more.

    Such a body, of an upload that was refused, is read on for a while: who still sends when the connection ends may never see why.
    """

    _due: asyncio.TimerHandle | None = None
    """When the connection is cut."""
    _awaits_head = _awaits_body = False
    _head = 0
    """Bytes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself has it
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._awaits_head:
            self._head += len(data)
            if self._head > _HEAD_BYTES:
                self._in_time()
                self.send_400_response(f"The head of the request is larger than {_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._in_time()
        self._awaits_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._awaits_body:
            self._due = self.loop.call_later(_UNWANTED_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._in_time()
        self._head, self._awaits_head = 0, True
        self._due = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def _in_time(self) -> None:
        self._awaits_head = self._awaits_body = False
        if self._due is not None:
            self._due.cancel()
            self._due = None


class _Server(uvicorn.Server):
    """The first signal refuses what is new and lets what runs come to its end; the second ends at once."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, on_ready: Callable[[int], object]) -> None:
        super().__init__(config)
        self._gateway, self._on_ready, self._loop = gateway, on_ready, asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not kept for uvicorn to raise again: ended as asked, the exit code is 0.
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())
        else:
            self.should_exit = True

    async def _drain(self) -> None:
        await self._gateway.drain()
        self.should_exit = True


async def serve(settings: Settings, on_ready: Callable[[int], object]) -> None:
    """Serve until SIGTERM or SIGINT; `on_ready` is told the port. Raises SystemExit when it cannot listen."""
    gateway = Gateway(settings)
    config = uvicorn.Config(
        make_app(gateway),
        host=settings.host,
        port=settings.port,
        http=_Protocol,
        ws="websockets-sansio",  # reads no further while a message waits: back-pressure
        ws_max_size=_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # sound does not shrink, and a small message could unpack to a large one
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        limit_concurrency=settings.connections,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    await _Server(config, gateway, on_ready).serve()
