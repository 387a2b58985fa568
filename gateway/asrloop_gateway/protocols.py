"""uvicorn's connections with what they lack for strangers: limits on all that is not asked for, in bytes and in time.

Requests and messages themselves are limited where they are read.
"""

# the methods are callbacks of asyncio, httptools and uvicorn, which say what each is for

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from asrloop_gateway.errors import ApiError, bad_request, overloaded

_HEAD_SECONDS = 10.0
_IDLE_SECONDS = 15.0
"""Between two requests."""
_UNWANTED_SECONDS = 5.0
"""The rest of a body that was refused is read for so long: who still sends when the connection ends may never see why."""
_UNREAD_SECONDS = 30.0
"""Who reads nothing of an answer for so long is gone."""
_HEAD_BYTES = 64 << 10
"""Of a head, and of all else that is not body: trailers, what chunks begin with."""
_READ_BYTES = 32 << 10
"""Of frames, at once: tiny ones cost so much to read that others wait noticeably for more."""
_FRAGMENTS = 1024
"""Kept apart, at most: each costs 30 times its bytes when these are few."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 of one connection. It is cut whenever it is the caller's turn, and nothing whole comes in time."""

    _due: asyncio.TimerHandle | None = None
    """When it is cut because of what the caller does not send."""
    _unread: asyncio.TimerHandle | None = None
    """When it is cut because of what the caller does not read."""
    _in_head = _in_body = False
    _loose = 0
    """Bytes since the last head, body or message that came to its end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself has it
        super().connection_made(transport)
        _give_up_unread(transport)
        self._watch()
        if self.limit_concurrency is not None and len(self.connections) > 2 * self.limit_concurrency:
            transport.abort()  # so many that to answer them all is a burden

    def data_received(self, data: bytes) -> None:
        self._loose += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("the request is no HTTP/1.1")
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._stop_watching()
                self.handle_websocket_upgrade()
            else:
                self._pass_over_upgrade(data[upgrade.args[0] :])
        else:
            if self._loose > _HEAD_BYTES and (self._in_head or self._in_body):
                self.send_400_response(f"the head or the trailer of the request is larger than {_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._watch()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # nobody asks for trailers
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._loose = 0
        self._in_head = False
        if self.parser.should_upgrade() and not self._should_upgrade():
            return  # comes again, without that wish
        self._in_body = True
        super().on_headers_complete()
        self._watch()

    def on_body(self, body: bytes) -> None:
        self._loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._in_body:
            self._loose = 0
            self._in_body = False
            super().on_message_complete()
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(_UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what no route has seen."""
        answer = bad_request("invalid_request", msg).response()
        head = [
            STATUS_LINE[400],
            *(b"%s: %s\r\n" % header for header in answer.raw_headers),
            b"connection: close\r\n\r\n",
        ]
        self.transport.write(b"".join(head) + bytes(answer.body))
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        refused = app is not self.app
        super()._start_asgi_task(cycle, cast(Any, _busy) if refused else app)

    def _watch(self) -> None:
        self._stop_watching()
        if self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
            return  # it is our turn
        begun = self._in_head or self.cycle is None
        seconds = _UNWANTED_SECONDS if self._in_body else _HEAD_SECONDS if begun else _IDLE_SECONDS
        self._due = self.loop.call_later(seconds, self.transport.close)

    def _stop_watching(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _pass_over_upgrade(self, rest: bytes) -> None:
        """Read the request again as one without that wish (RFC 9110, 7.8): with it the parser skips the body."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        close = b"close" in b",".join(value for name, value in self.headers if name == b"connection").lower()
        kept = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection")]
        lines = [b"%s: %s\r\n" % header for header in [*kept, (b"connection", b"close" if close else b"keep-alive")]]
        self.parser = httptools.HttpRequestParser(self)
        self._loose = 0
        self.data_received(b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(lines)) + rest)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose memory does not depend on how its bytes are cut."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.max_size = _READ_BYTES  # type: ignore[attr-defined]  # of asyncio's own transports: bytes read at once

    def handle_ping(self) -> None:
        pong = self.conn.data_to_send()
        if self.writable.is_set():  # else an earlier one waits to be read
            self.transport.write(b"".join(pong))

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= _FRAGMENTS:
            self.frames = [b"".join(self.frames)]
        super().handle_cont(event)


def _give_up_unread(transport: asyncio.BaseTransport) -> None:
    """Let the system end a connection whose other end takes nothing of what waits for it, also when it was closed here."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * _UNREAD_SECONDS))


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    error: ApiError = overloaded("there are too many connections: try again later")
    answer = error.response()
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)
