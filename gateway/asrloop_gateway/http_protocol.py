"""uvicorn's HTTP/1.1 connection, with the limits in bytes and time that a public server needs.

States of a connection, and what ends each: the TLS handshake (`accepting`), a head (_HEAD_SECONDS), a body that a route reads and
a running request (the route's limits), a body that no route wants (_UNWANTED_SECONDS), a response that is not read
(_UNREAD_SECONDS), idleness (_IDLE_SECONDS), closing (CLOSING_SECONDS). `websocket_protocol` has those of WebSockets.
The sizes of bodies and messages are limited where they are read.
"""

# the methods are callbacks of asyncio, httptools and uvicorn, which say what each is for

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from asrloop_gateway import waiting
from asrloop_gateway.errors import ApiError, bad_request, overloaded

_HEAD_SECONDS = 10.0
"""Disconnect clients whose request head takes longer."""
_IDLE_SECONDS = 15.0
"""Disconnect clients that send nothing for this long between two requests."""
_UNWANTED_SECONDS = 5.0
"""Read the rest of a refused body for this long: a client that is still sending when the connection ends may miss the error."""
_UNREAD_SECONDS = 30.0
"""Disconnect clients that read nothing for this long."""
CLOSING_SECONDS = 30.0
"""A closed connection may take so long to send its last bytes."""
_HEAD_BYTES = 64 << 10
"""Limit for a request head, and for everything else that is not body: trailers, heads of chunks."""
_AHEAD = 32
"""Most requests of a connection that wait for the responses of those before them."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 connection that is closed when the caller does not complete a head or body, or does not read, in time."""

    _due: asyncio.TimerHandle | None = None
    """Timer that closes the connection while the caller has to send."""
    _unread: asyncio.TimerHandle | None = None
    """Timer that closes the connection while the caller has to read."""
    _in_head = _in_body = False
    _loose = 0
    """Bytes received since the last complete head, body or message."""
    _answering: RequestResponseCycle | None = None
    """The request that was started last; `cycle` may be a later one that waits."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself has it
        super().connection_made(transport)
        _give_up_unread(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._loose += len(data)
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    # The parser stops behind the head, and would skip the body.
                    rest = rest[upgrade.args[0] :]
                if not self._passes_over_upgrade():
                    return
        except httptools.HttpParserError:
            if len(self.pipeline) >= _AHEAD:
                self._refuse(bad_request("invalid_request", f"More than {_AHEAD} requests wait for their responses."))
            else:
                self._refuse(bad_request("invalid_request", "The request is not HTTP/1.1."))
        else:
            if self._loose > _HEAD_BYTES and (self._in_head or self._in_body):
                message = f"The head or the trailer of the request is larger than {_HEAD_BYTES} bytes."
                self._refuse(bad_request("invalid_request", message))

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= _AHEAD:
            raise OverflowError  # which ends the parsing
        super().on_message_begin()
        self._in_head = True
        self._watch()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # trailers are not used
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._loose = 0
        self._in_head = False
        if self.parser.should_upgrade():
            return  # `_passes_over_upgrade` decides
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
        self._leave()
        super().connection_lost(exc)

    def _refuse(self, error: ApiError) -> None:
        """Answer a request that cannot be read, and close. Where another one waits for its answer, only close."""
        last = self._answering
        is_its_body = self._in_body and last is self.cycle and last is not None and not last.response_started
        if last is None or last.response_complete or is_its_body:
            self.transport.write(raw_response(error))
        self._leave()
        self.transport.close()

    def _leave(self) -> None:
        """Tell the running request that its caller is gone."""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        def abort() -> None:
            cycle.disconnected = True
            self.transport.abort()

        self._answering = cycle
        super()._start_asgi_task(cycle, cast(Any, until_cancelled(app if app is self.app else _busy, abort)))

    def _watch(self) -> None:
        self._stop_watching()
        if self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
            return  # the gateway has to respond
        begun = self._in_head or self.cycle is None
        seconds = _UNWANTED_SECONDS if self._in_body else _HEAD_SECONDS if begun else _IDLE_SECONDS
        self._due = self.loop.call_later(seconds, self.transport.close)
        waiting.begin(self, self._end)

    def _end(self) -> bool:
        is_sent = not self.transport.get_write_buffer_size()
        if is_sent:
            self.transport.abort()
        return is_sent

    def _stop_watching(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
            waiting.over(self)

    def _passes_over_upgrade(self) -> bool:
        """Decide about a head that asks for another protocol. Returns False when no further bytes are HTTP."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            error = ApiError(405, "method_not_allowed", "CONNECT is not supported. This is no proxy.")
            self._refuse(error)
        elif version == "1.0" or not self._should_upgrade():  # RFC 9110, 7.8: 1.0 has no upgrades
            self._parse_without_upgrade(method, version.encode())
            return True
        elif method != b"GET" or any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            message = "A WebSocket begins with GET and has no body."
            self._refuse(bad_request("invalid_request", message))
        elif self._answering is not None and not self._answering.response_complete:
            self._refuse(bad_request("invalid_request", "A WebSocket begins after the responses of earlier requests."))
        else:
            self._stop_watching()
            self.scope["method"] = "GET"
            self.handle_websocket_upgrade()
        return False

    def _parse_without_upgrade(self, method: bytes, version: bytes) -> None:
        """Parse the head again without its Upgrade header (RFC 9110, 7.8): with it the parser skips the body."""
        close = b"close" in b",".join(value for name, value in self.headers if name == b"connection").lower()
        kept = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection")]
        lines = [b"%s: %s\r\n" % header for header in [*kept, (b"connection", b"close" if close else b"keep-alive")]]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(lines)))


def until_cancelled(app: ASGIApp, abort: Callable[[], object]) -> ASGIApp:
    """Return `app` with `abort` in the place of an error when uvicorn cancels it: the gateway ends and waits no longer."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            abort()

    return run


def raw_response(error: ApiError) -> bytes:
    """Return the whole response of an error, for a connection that ends with it."""
    answer = error.response()
    lines = [b"%s: %s\r\n" % header for header in answer.raw_headers]
    return b"".join([STATUS_LINE[error.status], *lines, b"connection: close\r\n\r\n", bytes(answer.body)])


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
