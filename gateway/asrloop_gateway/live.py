"""WS /v1/stream: 16-bit PCM or a recording in; for each segment its stable text, its tail, and its final text out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from asrloop_client import END_SEGMENT, AsyncStream, StreamEvent
from asrloop_client.audio import HIGHEST_RATE, LOWEST_RATE
from starlette.websockets import WebSocket

from asrloop_gateway.asked import Asked, language_of, refuse_speakers, terms_of, text_of, turns_of
from asrloop_gateway.errors import bad_request
from asrloop_gateway.formats import rounded, told
from asrloop_gateway.gateway import Gateway
from asrloop_gateway.recordings import DEMUXERS, Decoding, Recordings
from asrloop_gateway.sessions import PROMPT_CHARACTERS
from asrloop_gateway.sockets import Message, Socket, check_first, serve, side_by_side

ROUTE = "stream"
_PCM = "pcm"


class LiveStreams:
    """Route /v1/stream."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._recordings = Recordings()

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one socket from its first message to its last."""
        await serve(websocket, self._gateway, ROUTE, self._talk)

    async def _talk(self, socket: Socket) -> None:
        first = await socket.receive()
        rate, asked, prompt, kind = 16_000, Asked(), "", _PCM
        if isinstance(first, dict) and _is(first, "start"):
            rate, asked, prompt, kind, first = _rate(first), _asked(first), _prompt(first), _kind(first), b""
        await self._gateway.server_there()
        asked = replace(asked, model=await self._gateway.recognizers.named(asked.model, live=True))
        asked = await self._gateway.prompted(asked, prompt)
        if kind != _PCM:
            await self._recording(socket, kind, asked)
            return
        async with self._gateway.stream(rate, asked) as stream:
            await side_by_side(self._feed(socket, stream, first, rate), _tell(socket, stream, asked.word_times))

    async def _feed(self, socket: Socket, stream: AsyncStream, message: Message | None, rate: int) -> None:
        begun = False
        while isinstance(message, bytes) or _is(message, "end_segment"):
            if not isinstance(message, bytes):
                await stream.send(END_SEGMENT)
                message = await socket.receive()
                continue
            if not begun:
                check_first(message, rate, f"; or name its format at the start: {', '.join(DEMUXERS)}")
            begun = begun or bool(message)
            if len(message) % 2:
                raise bad_request(
                    "invalid_audio", f"A message has {len(message)} bytes. Send 16-bit PCM, 2 bytes a sample."
                )
            self._gateway.metrics.heard(ROUTE, len(message), len(message) / 2 / rate)
            await stream.send(message)
            message = await socket.receive()
        _check_end(message)
        await stream.finish()

    async def _recording(self, socket: Socket, kind: str, asked: Asked) -> None:
        """Serve a recording that arrives in the format `kind`."""
        seconds = self._gateway.settings.audio_seconds
        opened: list[AsyncStream] = []
        try:
            async with asyncio.timeout(seconds), self._recordings.decoding(kind) as decoding:
                await side_by_side(
                    self._arrive(socket, decoding, opened), self._decode(socket, decoding, asked, opened)
                )
        except TimeoutError:
            raise bad_request("too_long", f"The socket was open for {seconds:g} s, which is the limit.") from None
        if decoding.missing:
            lost = f"{decoding.missing:.1f} s of the {kind} could not be decoded"
            raise bad_request("invalid_audio", f"{lost}: it is damaged. The text is that of the rest.", "format")

    async def _arrive(self, socket: Socket, decoding: Decoding, opened: Sequence[AsyncStream]) -> None:
        """Pass a recording on to what decodes it. The open segment ends behind the sound that has been decoded."""
        while isinstance(message := await socket.receive(), bytes) or _is(message, "end_segment"):
            if not isinstance(message, bytes):
                for stream in opened:
                    await stream.send(END_SEGMENT)
                continue
            self._gateway.metrics.heard(ROUTE, len(message), 0)
            await decoding.feed(message)
        _check_end(message)
        decoding.end()
        await decoding.watch()

    async def _decode(self, socket: Socket, decoding: Decoding, asked: Asked, opened: list[AsyncStream]) -> None:
        rate = await decoding.begun()
        async with self._gateway.stream(rate, asked) as stream:
            opened.append(stream)
            await side_by_side(self._pass_on(decoding, stream, rate), _tell(socket, stream, asked.word_times))

    async def _pass_on(self, decoding: Decoding, stream: AsyncStream, rate: int) -> None:
        async for pcm in decoding.pcm():
            self._gateway.metrics.heard(ROUTE, 0, len(pcm) / 2 / rate)
            await stream.send(pcm)
        await stream.finish()


async def _tell(socket: Socket, stream: AsyncStream, tells_words: bool) -> None:
    async for event in stream:
        await socket.send(_fields(event, tells_words))


def _fields(event: StreamEvent, tells_words: bool) -> dict[str, object]:
    """Return the outputs of asr_stream under their names in lower case; `words` of a final are as in `verbose_json`."""
    words = {"words": [told(word) for word in event.words]} if tells_words and event.final else {}
    pause = {"pause": True} if event.pause else {}
    turn = {} if event.turn is None else {"turn": round(event.turn, 3)}
    return {
        "segment": event.segment,
        "stable": event.stable,
        "tail": event.tail,
        "final": event.final,
        "times": [rounded(event.start), rounded(event.heard)],
        **pause,
        **turn,
        **words,
    }


def _check_end(message: dict[str, Any] | None) -> None:
    if message is not None and not _is(message, "end"):
        raise bad_request(
            "invalid_message",
            f"Unknown message type {message.get('type')!r:.50}. Send audio, "
            "{'type': 'end_segment'}, or {'type': 'end'}.",
        )


def _is(message: Message | None, kind: str) -> bool:
    return isinstance(message, dict) and message.get("type") == kind


def _asked(start: dict[str, Any]) -> Asked:
    """Return what a start message asks for. The server says which values it takes. Raises ApiError 400."""
    refuse_speakers(start)
    word_times, boost = start.get("word_times", False), start.get("key_terms_boost", "")
    if not isinstance(word_times, bool):
        raise bad_request("invalid_option", f"word_times is {word_times!a:.50}. Give true or false.", "word_times")
    if isinstance(boost, int | float) and not isinstance(boost, bool):
        boost = repr(boost)
    return Asked(
        model=text_of("model", start.get("model", "")),
        language=language_of(start.get("language", "")),
        word_times=word_times,
        key_terms=terms_of("key_terms", start.get("key_terms", [])),
        key_terms_boost=text_of("key_terms_boost", boost, "a number"),
        turns=turns_of(start),
    )


def _kind(start: dict[str, Any]) -> str:
    kind = start.get("format", _PCM)
    if not isinstance(kind, str) or kind not in (_PCM, *DEMUXERS):
        raise bad_request("invalid_option", f"format is {kind!a:.50}. Give {', '.join((_PCM, *DEMUXERS))}.", "format")
    return kind


def _prompt(start: dict[str, Any]) -> str:
    """Return the prompt of a start message. Raises ApiError 400."""
    prompt = text_of("prompt", start.get("prompt", ""))
    if len(prompt) > PROMPT_CHARACTERS:
        message = f"prompt has {len(prompt)} characters. Give at most {PROMPT_CHARACTERS}."
        raise bad_request("invalid_option", message, "prompt")
    return prompt


def _rate(start: dict[str, Any]) -> int:
    rate = start.get("sample_rate", 16_000)
    if not isinstance(rate, int) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise bad_request(
            "invalid_audio",
            f"sample_rate is {rate!r:.50}. Give a whole number in {LOWEST_RATE}..{HIGHEST_RATE}.",
            "sample_rate",
        )
    return rate
