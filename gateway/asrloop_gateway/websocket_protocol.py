"""uvicorn's WebSocket, with a limit on the bytes that it holds, however messages are cut into frames, and on time.

States, and what ends each: a handshake (answered at once), open (pings, and the limits in `sockets`), closed by us
(_CLOSE_SECONDS for the client's answer), closing (CLOSING_SECONDS).
"""

# the methods are callbacks of asyncio and uvicorn, which say what each is for

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from typing import Any, cast

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import SecurityError
from websockets.frames import Frame

from asrloop_gateway.errors import ApiError, bad_request
from asrloop_gateway.http_protocol import raw_response, until_cancelled

_READ_BYTES = 32 << 10
"""Bytes read at once: many tiny frames in a larger read would delay other connections noticeably."""
_CLOSE_SECONDS = 5.0
"""Wait so long for the client's part of a close."""
_KERNEL_BYTES = 128 << 10
"""Bytes that the kernel holds unread: a client's ping waits behind them, and clients do not wait long."""
_HELD_BYTES, _ALL_HELD_BYTES = 32 << 20, 128 << 20
"""Bytes that are held before the application has done with them, of one connection and of all: clients that send a file at once
and ping meanwhile want an answer soon."""
_ALWAYS_BYTES = 256 << 10
"""Bytes that each connection may hold, whatever others do: live audio goes on."""
_MESSAGE_BYTES = 1 << 10
"""A message takes so much memory besides its own bytes."""
_FRAGMENTS = 1024
"""Most fragments of a message before they are joined: a tiny one costs 30 times its bytes."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket that reads on while messages wait, within limits of memory: each byte counts from its arrival until the
    application asks for the message after its own.
    """

    _received_at = 0.0
    _is_served = True
    """False when the application has ended."""
    _is_deaf = False
    """True when the rest of what the client sends is passed over."""
    _all_held = 0
    """Bytes of all connections, kept by the class."""
    _waiting: set[WebSocketProtocol] = set()  # noqa: RUF012 - of the class
    """Connections that do not read because all hold too much."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app = cast(Any, until_cancelled(cast(Any, self.app), lambda: self.transport.abort()))
        self.close_timeout = _CLOSE_SECONDS
        self._sizes: deque[int] = deque()
        """Sizes of the messages in the queue."""
        self._taken = self._queued = self._held = 0
        """Bytes of the message that the application has, of those in the queue, and with the one that arrives in all."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.max_size = _READ_BYTES  # type: ignore[attr-defined]  # asyncio's transports: bytes read at once
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)

    def data_received(self, data: bytes) -> None:
        self._received_at = self.loop.time()
        if self._is_deaf:
            return
        super().data_received(data)
        if not self.handshake_initiated:
            self._refuse_handshake()
        self._pace()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._drop_partial()
        self._read_or_wait()

    def keepalive_timeout(self) -> None:
        # The pong lies behind audio that waits to be read.
        if self.read_paused or self._received_at > self.ping_sent_at:
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def send_receive_event_to_app(self) -> None:
        # Instead of uvicorn's, which stops reading, and logs text that is no UTF-8 as an error of the gateway.
        data, self.frames = b"".join(self.frames), []
        if self.close_sent or not self._is_served:
            return
        try:
            content = data.decode() if self.curr_msg_data_type == "text" else data
        except UnicodeDecodeError:
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        self.queue.put_nowait(cast(Any, {"type": "websocket.receive", self.curr_msg_data_type: content}))
        self._sizes.append(sys.getsizeof(content) + _MESSAGE_BYTES)
        self._queued += self._sizes[-1]
        self._pace()

    async def receive(self) -> ASGIReceiveEvent:
        self._taken = 0
        self._pace()
        message = await super().receive()
        if message["type"] == "websocket.receive":
            self._taken = self._sizes.popleft()
            self._queued -= self._taken
        self._pace()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        await self.writable.wait()
        if self.close_sent:  # by the protocol, for what the client sent, which the application does not know yet
            raise ClientDisconnected
        await super().send(message)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._is_served = False
        self._taken = self._queued = 0
        self._pace()

    def _pace(self) -> None:
        """Count what is held, and read while there is room for more."""
        self._count()
        self._read_or_wait()
        if WebSocketProtocol._waiting and WebSocketProtocol._all_held < _ALL_HELD_BYTES:
            for each in list(WebSocketProtocol._waiting):
                each._read_or_wait()

    def _count(self) -> None:
        partial = len(self.conn.reader.buffer) + sum(map(len, self.frames))
        before, self._held = self._held, self._taken + self._queued + partial
        WebSocketProtocol._all_held += self._held - before

    def _read_or_wait(self) -> None:
        is_full = WebSocketProtocol._all_held >= _ALL_HELD_BYTES and self._held >= _ALWAYS_BYTES
        ends = self.close_sent or self.disconnected or not self._is_served
        if ends and self._held >= _ALWAYS_BYTES:  # the client's own close lies behind a message that nobody wants
            self._is_deaf = True
            self._drop_partial()
        reads = ends or not (is_full or self._held >= _HELD_BYTES)
        (WebSocketProtocol._waiting.add if is_full and not ends else WebSocketProtocol._waiting.discard)(self)
        if reads and self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        elif not reads and not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _drop_partial(self) -> None:
        self.conn.reader.buffer.clear()
        self.frames.clear()
        self._count()

    def _refuse_handshake(self) -> None:
        """Answer a head that `websockets` does not take. The library itself leaves it without an answer, or open."""
        if isinstance(self.conn.handshake_exc, SecurityError):
            message = (
                f"The head is too large for a WebSocket: {self.conn.handshake_exc}. Send fewer and shorter headers."
            )
            error = ApiError(431, "invalid_request", message)
        else:
            error = bad_request("invalid_request", "The request is no WebSocket handshake.")
        self.close_sent = self.handshake_complete = True
        self.transport.write(raw_response(error))
        self.transport.close()

    def handle_ping(self) -> None:
        pong = self.conn.data_to_send()
        if self.writable.is_set():  # else an earlier pong is still unread
            self.transport.write(b"".join(pong))

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= _FRAGMENTS:
            self.frames = [b"".join(self.frames)]
        super().handle_cont(event)
