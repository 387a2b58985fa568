"""WS /v1/stream: 16-bit PCM in; for each segment its stable text, its tail, and its final text out."""

from __future__ import annotations

from typing import Any

from asrloop_client import AsyncStream, StreamEvent
from asrloop_client.audio import HIGHEST_RATE, LOWEST_RATE
from starlette.websockets import WebSocket

from asrloop_gateway.errors import bad_request
from asrloop_gateway.formats import rounded
from asrloop_gateway.gateway import Gateway
from asrloop_gateway.sockets import Message, Socket, check_first, serve, side_by_side

ROUTE = "stream"


class LiveStreams:
    """Route /v1/stream."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one socket from its first message to its last."""
        await serve(websocket, self._gateway, ROUTE, self._talk)

    async def _talk(self, socket: Socket) -> None:
        first = await socket.receive()
        rate, parameters = 16_000, {}
        if isinstance(first, dict) and _is(first, "start"):
            rate, parameters, first = _rate(first), _parameters(first), b""
        await self._gateway.server_there()
        async with self._gateway.stream(rate, parameters) as stream:
            await side_by_side(self._feed(socket, stream, first, rate), _tell(socket, stream))

    async def _feed(self, socket: Socket, stream: AsyncStream, message: Message | None, rate: int) -> None:
        begun = False
        while isinstance(message, bytes):
            if not begun:
                check_first(message, rate)
            begun = begun or bool(message)
            if len(message) % 2:
                raise bad_request(
                    "invalid_audio", f"A message has {len(message)} bytes. Send 16-bit PCM, 2 bytes a sample."
                )
            self._gateway.metrics.heard(ROUTE, len(message), len(message) / 2 / rate)
            await stream.send(message)
            message = await socket.receive()
        if message is not None and not _is(message, "end"):
            raise bad_request(
                "invalid_message", f"Unknown message type {message.get('type')!r:.50}. Send PCM, or {{'type': 'end'}}."
            )
        await stream.finish()


async def _tell(socket: Socket, stream: AsyncStream) -> None:
    async for event in stream:
        await socket.send(_fields(event))


def _fields(event: StreamEvent) -> dict[str, object]:
    """Return the outputs of asr_stream under their names in lower case."""
    return {
        "segment": event.segment,
        "stable": event.stable,
        "tail": event.tail,
        "final": event.final,
        "times": [rounded(event.start), rounded(event.heard)],
    }


def _is(message: Message | None, kind: str) -> bool:
    return isinstance(message, dict) and message.get("type") == kind


def _parameters(start: dict[str, Any]) -> dict[str, str]:
    """Return the request parameters that a start message sets. The server says which languages it has. Raises ApiError 400."""
    language = start.get("language", "")
    if not isinstance(language, str):
        raise bad_request(
            "invalid_option", f"language is {language!r:.50}. Give an ISO 639-1 code, such as en.", "language"
        )
    return {"language": language} if language else {}


def _rate(start: dict[str, Any]) -> int:
    rate = start.get("sample_rate", 16_000)
    if not isinstance(rate, int) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise bad_request(
            "invalid_audio",
            f"sample_rate is {rate!r:.50}. Give a whole number in {LOWEST_RATE}..{HIGHEST_RATE}.",
            "sample_rate",
        )
    return rate
