"""Shared part of both WebSocket routes: time limits, errors, closing. Knows nothing of the messages' content."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from asrloop_client import AsrError, InvalidAudio
from asrloop_client.live.raw import check_raw
from starlette.websockets import WebSocket, WebSocketDisconnect

from asrloop_gateway.admission import subprotocol_of
from asrloop_gateway.errors import LOG, ApiError, bad_request, failed, from_asr
from asrloop_gateway.gateway import GONE, Gateway

Message = dict[str, Any] | bytes
_NORMAL, _GOING_AWAY = 1000, 1001


class Socket:
    """WebSocket with time limits for receiving and sending."""

    def __init__(self, websocket: WebSocket, gateway: Gateway) -> None:
        self._websocket, self._gateway = websocket, gateway
        self._until = time.monotonic() + gateway.settings.audio_seconds
        self.ended: ApiError | None = None
        """Error to close with after `receive` returned None; None when the gateway is stopping."""

    async def receive(self, idle_seconds: float | None = None) -> Message | None:
        """Return the next message: JSON as a dictionary, or bytes; None when the gateway stops or the time limit is reached.

        Raises ApiError 400 for text that is not a JSON object, 408 when no message comes in `idle_seconds` (default: the
        setting), WebSocketDisconnect.
        """
        settings = self._gateway.settings
        idle_seconds = idle_seconds or settings.idle_seconds
        left = max(0.0, self._until - time.monotonic())
        message = asyncio.ensure_future(self._websocket.receive())
        closing = asyncio.ensure_future(self._gateway.closing.wait())
        try:
            await asyncio.wait({message, closing}, timeout=min(left, idle_seconds), return_when=asyncio.FIRST_COMPLETED)
            if message.done():
                return _read(message.result())
            if closing.done():
                return None
            if left <= idle_seconds:
                self.ended = bad_request(
                    "too_long", f"The socket was open for {settings.audio_seconds:g} s, which is the limit."
                )
                return None
            text = f"No message came for {idle_seconds:g} s. Send silence, or end the stream."
            raise ApiError(408, "too_slow", text)
        finally:
            message.cancel()
            closing.cancel()

    async def send(self, message: dict[str, Any]) -> None:
        """Send JSON. Raises ApiError 408 when the caller does not read, WebSocketDisconnect."""
        seconds = self._gateway.settings.idle_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._websocket.send_text(json.dumps(message))
        except TimeoutError:
            raise ApiError(408, "too_slow", f"The client read nothing for {seconds:g} s. Read all messages.") from None


async def serve(
    websocket: WebSocket, gateway: Gateway, route: str, talk: Callable[[Socket], Coroutine[Any, Any, None]]
) -> None:
    """Serve one socket until `talk` ends. Errors are sent to the caller as `{"error": ...}` and a close code, never raised.

    Browsers do not tell a page why a handshake was refused, so each is accepted first and refused after.
    """
    socket, name = Socket(websocket, gateway), uuid.uuid4().hex
    with suppress(WebSocketDisconnect):
        await websocket.accept(subprotocol_of(websocket))
        try:
            with gateway.running(route, status=101) as outcome:
                try:
                    with gateway.admission.socket(gateway.admission.admit(websocket)):
                        await gateway.until_over(talk(socket))
                except AsrError as error:
                    raise from_asr(error, name) from error
                except WebSocketDisconnect:
                    outcome.status = GONE
                    raise
                except ApiError:
                    raise
                except Exception as error:
                    LOG.exception("%s: the socket failed", name)
                    raise failed(name) from error
                if socket.ended is not None:
                    raise socket.ended
        except ApiError as error:
            with suppress(ApiError):  # a client that does not read gets no error
                await socket.send({"type": "error", **error.body})
            await websocket.close(error.close_code, error.code)
        else:
            await websocket.close(_GOING_AWAY if gateway.closing.is_set() else _NORMAL)


def check_first(content: bytes, rate: int, hint: str = "") -> None:
    """Check the first bytes of live audio of `rate` Hz. Raises ApiError 400 for a file that is no raw PCM; `hint` says more."""
    try:
        check_raw(content, rate)
    except InvalidAudio as error:
        raise bad_request("invalid_audio", f"{error}{hint}.", "audio") from None


async def side_by_side(feeding: Coroutine[Any, Any, None], telling: Coroutine[Any, Any, None]) -> None:
    """Run `feeding` a stream beside `telling` its events, until all events are sent. An error of either ends both."""
    tasks = {asyncio.ensure_future(feeding): "feeding", asyncio.ensure_future(telling): "telling"}
    waiting = set(tasks)
    try:
        while any(tasks[task] == "telling" for task in waiting):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _read(message: Any) -> Message:
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
    if message.get("bytes") is not None:
        return bytes(message["bytes"])
    try:
        read = json.loads(message["text"])
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise bad_request("invalid_message", f"A message is {message['text']!r:.80}. Send a JSON object.")
    return read
