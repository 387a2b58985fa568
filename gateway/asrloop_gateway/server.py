"""uvicorn, configured for public use, with a shutdown that lets running requests finish."""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from asrloop_gateway.accepting import Acceptor, listeners
from asrloop_gateway.app import make_app
from asrloop_gateway.errors import LOG
from asrloop_gateway.gateway import Gateway
from asrloop_gateway.http_protocol import CLOSING_SECONDS, HttpProtocol
from asrloop_gateway.settings import Settings
from asrloop_gateway.websocket_protocol import WebSocketProtocol

_MESSAGE_BYTES = 4 << 20
"""Largest WebSocket message: a minute of 24 kHz in base64."""
_CLOSE_SECONDS = 2
_OTHER_FILES = 256
"""Open files for channels to the servers, files of the page, and libraries."""


class Server(uvicorn.Server):
    """Server that drains at the first signal and ends at once at the second."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, on_ready: Callable[[int], object]) -> None:
        super().__init__(config)
        self._gateway, self._on_ready, self._loop = gateway, on_ready, asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None
        self._closing: dict[Any, float] = {}
        """Connections that are closed and have bytes to send, and since when."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        config, state = self.config, self.server_state
        try:
            listening = listeners(config.host, config.port, config.backlog)
        except OSError as error:
            LOG.error("cannot listen on %s port %d: %s", config.host, config.port, error)
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)

        def protocol() -> HttpProtocol:
            return HttpProtocol(config, state, self.lifespan.state)

        most = config.limit_concurrency or 1
        self.servers: list[Any] = [Acceptor(each, protocol, state.connections, most, config.ssl) for each in listening]
        self.started = True
        self._on_ready(listening[0].getsockname()[1])

    async def on_tick(self, counter: int) -> bool:
        """Abort connections that do not come to their end in time."""
        now = time.monotonic()
        ending = [each for each in self.server_state.connections if each.transport and each.transport.is_closing()]
        self._closing = {each: self._closing.get(each, now) for each in ending}
        for each, since in self._closing.items():
            if now - since > CLOSING_SECONDS:
                each.transport.abort()
        return await super().on_tick(counter)

    async def _wait_tasks_to_complete(self) -> None:
        """Wait for clients to take their last bytes, and cut off those that do not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await super()._wait_tasks_to_complete()
        for each in [each for each in self.server_state.connections if each.transport is not None]:
            each.transport.abort()
        await super()._wait_tasks_to_complete()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not recorded for uvicorn to raise again: a requested stop has exit code 0.
        self._loop.call_soon_threadsafe(self.stop)

    def stop(self) -> None:
        """Do what a signal does."""
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())
        else:
            self._gateway.end()
            self.should_exit = True

    async def _drain(self) -> None:
        await self._gateway.drain()
        self.should_exit = True


def _most_connections(settings: Settings) -> int:
    """Raise the limit of open files, often 1024, and return how many connections leave enough for the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    other = settings.transcriptions + settings.sockets + _OTHER_FILES
    wanted = 2 * settings.connections + other
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings.connections
    most = max(1, soft - other, soft // 2) // 2
    LOG.warning("%d files may be open, so at most %d connections. Raise the limit to %d.", soft, most, wanted)
    return most


async def serve(settings: Settings, on_ready: Callable[[int], object]) -> None:
    """Serve until SIGTERM or SIGINT; calls `on_ready` with the port. Raises SystemExit when it cannot listen."""
    await make_server(settings, on_ready).serve()


def make_server(settings: Settings, on_ready: Callable[[int], object]) -> Server:
    """Return the server of the gateway, in a running loop."""
    connections = _most_connections(settings)
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
        limit_concurrency=connections,
        timeout_graceful_shutdown=_CLOSE_SECONDS + 1,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    return Server(config, gateway, on_ready)
