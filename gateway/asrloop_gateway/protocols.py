"""uvicorn's HTTP and WebSocket connections, with the limits in bytes and time that a public server needs.

The sizes of bodies and messages are limited where they are read.
"""

# the methods are callbacks of asyncio, httptools and uvicorn, which say what each is for

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any, cast

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from asrloop_gateway.errors import ApiError, bad_request, overloaded

_HEAD_SECONDS = 10.0
"""Disconnect clients whose request head takes longer."""
_IDLE_SECONDS = 15.0
"""Disconnect clients that send nothing for this long between two requests."""
_UNWANTED_SECONDS = 5.0
"""Read the rest of a refused body for this long: a client that is still sending when the connection ends may miss the error."""
_UNREAD_SECONDS = 30.0
"""Disconnect clients that read nothing for this long."""
_HEAD_BYTES = 64 << 10
"""Limit for a request head, and for everything else that is not body: trailers, heads of chunks."""
_READ_BYTES = 32 << 10
"""WebSocket bytes read at once: many tiny frames in a larger read would delay other connections noticeably."""
_KERNEL_BYTES = 128 << 10
"""WebSocket bytes that the kernel holds unread: a client's ping waits behind them, and clients do not wait long."""
_UNHEARD_BYTES, _ALL_UNHEARD_BYTES = 32 << 20, 256 << 20
"""WebSocket bytes that are read before the application takes them, of one connection and of all: clients that send a file at once
and ping meanwhile want an answer soon."""
_MESSAGE_BYTES = 1 << 10
"""A message takes so much memory besides its own bytes."""
_FRAGMENTS = 1024
"""Most fragments of a message before they are joined: a tiny one costs 30 times its bytes."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 connection that is closed when the caller does not complete a head or body, or does not read, in time."""

    _due: asyncio.TimerHandle | None = None
    """Timer that closes the connection while the caller has to send."""
    _unread: asyncio.TimerHandle | None = None
    """Timer that closes the connection while the caller has to read."""
    _in_head = _in_body = False
    _loose = 0
    """Bytes received since the last complete head, body or message."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself has it
        super().connection_made(transport)
        _give_up_unread(transport)
        self._watch()
        if self.limit_concurrency is not None and len(self.connections) > 2 * self.limit_concurrency:
            transport.abort()  # too many even to send an error to

    def data_received(self, data: bytes) -> None:
        self._loose += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("The request is not HTTP/1.1.")
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._stop_watching()
                self.handle_websocket_upgrade()
            else:
                self._pass_over_upgrade(data[upgrade.args[0] :])
        else:
            if self._loose > _HEAD_BYTES and (self._in_head or self._in_body):
                self.send_400_response(f"The head or the trailer of the request is larger than {_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._watch()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # trailers are not used
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._loose = 0
        self._in_head = False
        if self.parser.should_upgrade() and not self._should_upgrade():
            return  # called again without the upgrade
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
        """Answer 400 to a request that reached no route."""
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
            return  # the gateway has to respond
        begun = self._in_head or self.cycle is None
        seconds = _UNWANTED_SECONDS if self._in_body else _HEAD_SECONDS if begun else _IDLE_SECONDS
        self._due = self.loop.call_later(seconds, self.transport.close)

    def _stop_watching(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _pass_over_upgrade(self, rest: bytes) -> None:
        """Parse the request again without its Upgrade header (RFC 9110, 7.8): with it the parser skips the body."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        close = b"close" in b",".join(value for name, value in self.headers if name == b"connection").lower()
        kept = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection")]
        lines = [b"%s: %s\r\n" % header for header in [*kept, (b"connection", b"close" if close else b"keep-alive")]]
        self.parser = httptools.HttpRequestParser(self)
        self._loose = 0
        self.data_received(b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(lines)) + rest)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket whose memory does not depend on how its messages are fragmented, and whose client may send faster than is heard."""

    _received_at = 0.0
    _is_served = True
    """False when the application has ended."""
    _all_unheard = 0
    """Bytes of all connections, kept by the class."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._unheard: deque[int] = deque()
        """Sizes of the messages in the queue."""
        self._unheard_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.max_size = _READ_BYTES  # type: ignore[attr-defined]  # asyncio's transports: bytes read at once
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)

    def data_received(self, data: bytes) -> None:
        self._received_at = self.loop.time()
        super().data_received(data)

    def keepalive_timeout(self) -> None:
        # The pong lies behind audio that waits to be read.
        if self.read_paused or self._received_at > self.ping_sent_at:
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def send_receive_event_to_app(self) -> None:
        size, before = sum(map(len, self.frames)) + _MESSAGE_BYTES, self.queue.qsize()
        super().send_receive_event_to_app()
        if self.queue.qsize() > before and self._is_served:
            self._unheard.append(size)
            self._count(size)
            self._read_on()

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if message["type"] == "websocket.receive":
            self._count(-self._unheard.popleft())
            self._read_on()
        return message

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._is_served = False
        self._count(-sum(self._unheard))
        self._unheard.clear()

    def _count(self, size: int) -> None:
        self._unheard_bytes += size
        WebSocketProtocol._all_unheard += size

    def _read_on(self) -> None:
        """Go on reading while messages wait, within the limits."""
        room = self._unheard_bytes < _UNHEARD_BYTES and WebSocketProtocol._all_unheard < _ALL_UNHEARD_BYTES
        if self.read_paused and room:
            self.read_paused = False
            self.transport.resume_reading()

    def handle_ping(self) -> None:
        pong = self.conn.data_to_send()
        if self.writable.is_set():  # else an earlier pong is still unread
            self.transport.write(b"".join(pong))

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= _FRAGMENTS:
            self.frames = [b"".join(self.frames)]
        super().handle_cont(event)


def _give_up_unread(transport: asyncio.BaseTransport) -> None:
    """Let the kernel end a connection whose peer does not take the data sent to it, even after it was closed here."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * _UNREAD_SECONDS))


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    error: ApiError = overloaded("Too many connections. Try again later.")
    answer = error.response()
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)
