"""uvicorn, configured for public use, with a shutdown that lets running requests finish."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from asrloop_gateway.app import make_app
from asrloop_gateway.gateway import Gateway
from asrloop_gateway.protocols import HttpProtocol, WebSocketProtocol
from asrloop_gateway.settings import Settings

_MESSAGE_BYTES = 4 << 20
"""Largest WebSocket message: a minute of 24 kHz in base64."""
_CLOSE_SECONDS = 2
_OTHER_FILES = 256
"""Open files for channels to the servers, files of the page, and libraries."""


class _Server(uvicorn.Server):
    """Server that drains at the first signal and ends at once at the second."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, on_ready: Callable[[int], object]) -> None:
        super().__init__(config)
        self._gateway, self._on_ready, self._loop = gateway, on_ready, asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not recorded for uvicorn to raise again: a requested stop has exit code 0.
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())
        else:
            self.should_exit = True

    async def _drain(self) -> None:
        await self._gateway.drain()
        self.should_exit = True


def _raise_open_files(connections_and_uploads: int) -> None:
    """Raise the limit of open files, often 1024: beyond it no connection is accepted, and the log fills with errors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_and_uploads + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def serve(settings: Settings, on_ready: Callable[[int], object]) -> None:
    """Serve until SIGTERM or SIGINT; calls `on_ready` with the port. Raises SystemExit when it cannot listen."""
    _raise_open_files(2 * settings.connections + settings.transcriptions + settings.sockets)
    gateway = Gateway(settings)
    config = uvicorn.Config(
        make_app(gateway),
        host=settings.host,
        port=settings.port,
        http=HttpProtocol,
        ws=WebSocketProtocol,  # stops reading while a message waits: back-pressure
        ws_max_size=_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # audio hardly compresses, and a small message could unpack to a large one
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        limit_concurrency=settings.connections,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    await _Server(config, gateway, on_ready).serve()
