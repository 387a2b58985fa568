"""WS /v1/realtime?intent=transcription, OpenAI's protocol: appended audio in, text of its items out.

With turn detection each segment of the live stream is an item; without it, the audio appended before each commit.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from typing import Any

from asrloop_client import AsyncStream
from asrloop_client.spacing import joined
from starlette.websockets import WebSocket

from asrloop_gateway.asked import Asked
from asrloop_gateway.errors import ApiError, bad_request
from asrloop_gateway.gateway import Gateway
from asrloop_gateway.sessions import Session, Transcription, new_id
from asrloop_gateway.sockets import Message, Socket, check_first, serve

ROUTE = "realtime"
_LEAST_MILLISECONDS = 100
"""Shortest audio of a commit."""
_PAUSE_SECONDS = 10.0
"""With turn detection, end the stream when no audio comes for this long: the server would end it as idle. The next audio begins
another."""


class Realtime:
    """Route /v1/realtime."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one socket from its first message to its last."""
        session = Session(transcription=Transcription(model=websocket.query_params.get("model", "asr_stream")[:200]))
        await serve(websocket, self._gateway, ROUTE, lambda socket: Conversation(socket, self._gateway, session).run())


class _Item:
    """Sends the events of one item. Times are seconds since the start of the session."""

    def __init__(self, socket: Socket, start: float) -> None:
        self._socket, self.id, self._start, self._said = socket, new_id("item"), start, ""

    async def tell(self, kind: str, **fields: Any) -> None:
        """Send an event of the input buffer for this item."""
        await self._socket.send({"type": f"input_audio_buffer.{kind}", **_event_id(), "item_id": self.id, **fields})

    async def grow(self, text: str) -> None:
        """Send the new part of `text`, which begins with all text sent before."""
        delta, self._said = text[len(self._said) :], text
        if delta:
            await self._tell_text("delta", delta=delta)

    async def complete(self, text: str, end: float) -> None:
        """Send the whole text."""
        await self.grow(text)
        usage = {"type": "duration", "seconds": round(end - self._start, 3)}
        await self._tell_text("completed", transcript=text, usage=usage)

    async def _tell_text(self, kind: str, **fields: Any) -> None:
        kind = f"conversation.item.input_audio_transcription.{kind}"
        await self._socket.send({"type": kind, **_event_id(), "item_id": self.id, "content_index": 0, **fields})


class Conversation:
    """Session of one socket. Messages are handled one after another; a task sends the stream's events."""

    def __init__(self, socket: Socket, gateway: Gateway, session: Session) -> None:
        self._socket, self._gateway, self._session, self._id = socket, gateway, session, new_id("sess")
        self._of_stream = session
        """Settings that the stream was opened with."""
        self._refused: ApiError | None = None
        """Why the buffer takes no audio until it is cleared."""
        self._stream: AsyncStream | None = None
        self._telling: asyncio.Task[None] | None = None
        self._began = self._heard = 0.0
        """Start of the audio that no complete item has, and end of all, in seconds of the session."""
        self._offset = 0.0
        """Start of the stream's audio."""
        self._appended_at = 0.0
        self._item: _Item | None = None
        self._before: str | None = None
        """Id of the previous item."""

    async def run(self) -> None:
        """Serve until the caller disconnects, or the gateway stops: then send the last texts."""
        await self._tell("session.created", session=self._described())
        try:
            while (message := await self._next()) is not None:
                if isinstance(message, ApiError):
                    await self._tell_error(message, None)
                else:
                    await self._answer(message)
            await self._finish()
        finally:
            await self._drop()

    async def _next(self) -> Message | ApiError | None:
        """Return the next message, or what is wrong with it. An error of the stream is raised at once, without waiting for one."""
        settings = self._gateway.settings
        listens = self._stream is not None and self._of_stream.turn_detection is not None
        holds = self._stream is not None and not listens
        receiving = asyncio.ensure_future(
            self._socket.receive(settings.idle_seconds if holds else settings.session_seconds)
        )
        try:
            waiting = {receiving, *filter(None, [self._telling])}
            left = max(0.0, self._appended_at + _PAUSE_SECONDS - time.monotonic()) if listens else None
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done() and self._telling is not None:
                if self._telling.done():
                    self._telling.result()
                else:
                    await self._finish()
            return await receiving
        except ApiError as error:
            if error.status != 400:
                raise
            return error
        finally:
            receiving.cancel()

    async def _answer(self, message: Message) -> None:
        """Handle a message. An invalid one gets an `error` event, and the session goes on."""
        known = {
            "session.update": self._update,
            "transcription_session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
        }
        fields = message if isinstance(message, dict) else {"type": "binary"}
        try:
            kind = fields.get("type")
            if not isinstance(kind, str) or kind not in known:
                raise bad_request("invalid_message", f"type is {kind!r:.60}. Send one of {', '.join(known)}.", "type")
            await known[kind](fields)
        except ApiError as error:
            if error.status != 400:
                raise
            await self._tell_error(error, fields.get("event_id"))

    async def _update(self, fields: dict[str, Any]) -> None:
        """Take settings, which hold from the next item on."""
        new = self._session.updated(fields)
        if self._stream is not None and self._of_stream.turn_detection is None:
            if new.format != self._of_stream.format:
                raise bad_request(
                    "invalid_session", "format cannot change while the buffer has audio. Commit or clear it first."
                )
            if new.turn_detection is not None:  # no commit will come
                await self._end_item()
        self._session = new
        beta = str(fields["type"]).startswith("transcription_session")
        await self._tell(f"{'transcription_' if beta else ''}session.updated", session=self._described(beta))

    async def _append(self, fields: dict[str, Any]) -> None:
        try:
            content = base64.b64decode(fields.pop("audio", ""), validate=True)  # both may have to wait
        except (binascii.Error, TypeError, ValueError) as error:
            raise bad_request("invalid_audio", f"audio is not base64: {error}.", "audio") from None
        if self._refused is not None:
            raise self._refused
        if self._stream is not None and self._is_superseded():
            await self._finish()
        settings = self._session if self._stream is None else self._of_stream
        if self._stream is None:
            try:
                check_first(content, settings.rate)
            except ApiError as error:
                self._refused = error
                raise
        samples = settings.samples(content)
        if self._stream is None:
            await self._gateway.server_there()
            model = await self._gateway.recognizers.named(self._session.model, live=True)
            turns = self._session.turn_detection.parameters if self._session.turn_detection is not None else ()
            asked = Asked(model, self._session.language, key_terms=self._session.keywords, turns=turns)
            asked = await self._gateway.speaking(asked, self._session.languages)
            asked = await self._gateway.prompted(asked, self._session.prompt)
            self._of_stream = self._session
            self._stream = self._gateway.stream(self._session.rate, asked)
            self._began = self._offset = self._heard
            await self._stream.__aenter__()
            events = self._tell_turns if self._session.turn_detection else self._tell_item
            self._telling = asyncio.ensure_future(events(self._stream))
        seconds = len(content) / settings.second_bytes
        self._heard += seconds
        self._gateway.metrics.heard(ROUTE, len(content), seconds)
        for piece in samples:
            await self._stream.send(piece)
        self._appended_at = time.monotonic()

    async def _commit(self, fields: dict[str, Any]) -> None:
        appended = 1000 * (self._heard - self._began) if self._stream is not None else 0.0
        if appended < _LEAST_MILLISECONDS:
            raise bad_request(
                "input_audio_buffer_commit_empty",
                f"The buffer has {appended:.0f} ms of audio. Append at least {_LEAST_MILLISECONDS} ms before a commit.",
            )
        await self._end_item()

    async def _end_item(self) -> None:
        """End the buffer's audio, and send its text."""
        before = self._before
        if self._of_stream.turn_detection is None and self._item is not None:
            await self._tell_committed(self._item)
        await self._finish()
        if self._before == before:  # silence is an item without text
            item = _Item(self._socket, self._began)
            await self._tell_committed(item)
            await item.complete("", self._heard)

    async def _clear(self, fields: dict[str, Any]) -> None:
        await self._drop()
        self._refused = None
        await self._tell("input_audio_buffer.cleared")

    async def _tell_turns(self, stream: AsyncStream) -> None:
        """Send each segment with words as an item."""
        async for event in stream:
            if self._item is None and not event.text:
                continue
            if self._item is None:
                start = self._offset + event.start
                self._item = _Item(self._socket, start)
                await self._item.tell("speech_started", audio_start_ms=round(1000 * start))
            if not event.final:
                await self._item.grow(event.stable)
                continue
            item, self._item, end = self._item, None, min(self._offset + event.heard, self._heard)
            self._began = end
            await item.tell("speech_stopped", audio_end_ms=round(1000 * end))
            await self._tell_committed(item)
            await item.complete(event.stable, end)

    async def _tell_item(self, stream: AsyncStream) -> None:
        """Send all segments as one item."""
        item = self._item = _Item(self._socket, self._began)
        finals: list[str] = []
        async for event in stream:
            text = joined((*finals, event.stable))
            if event.final:
                finals.append(event.stable)
            await item.grow(text)
        await item.complete(joined(finals), self._heard)

    async def _tell_committed(self, item: _Item) -> None:
        await item.tell("committed", previous_item_id=self._before)
        self._before = item.id

    async def _finish(self) -> None:
        """End the stream after sending its remaining text."""
        if self._stream is not None and self._telling is not None:
            await self._stream.finish()
            await self._telling
        await self._drop()

    async def _drop(self) -> None:
        """Cancel the stream."""
        stream, telling = self._stream, self._telling
        self._stream = self._telling = self._item = None
        if telling is not None:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        if stream is not None:
            await stream.close()

    def _described(self, beta: bool = False) -> dict[str, Any]:
        return {"id": self._id, **self._session.described(beta)}

    def _is_superseded(self) -> bool:
        """True when the next audio belongs to a stream with newer settings: behind the open item, at once in another format."""
        new, old = self._session, self._of_stream
        if old.turn_detection is None:  # its commit ends it
            return False
        if new.format != old.format:
            return True
        return self._item is None and _wishes(new) != _wishes(old)

    async def _tell_error(self, error: ApiError, event_id: object) -> None:
        known = event_id if isinstance(event_id, str) else None  # else it may be no JSON: NaN
        await self._tell("error", error={**error.body["error"], "event_id": known})

    async def _tell(self, kind: str, **fields: Any) -> None:
        await self._socket.send({"type": kind, **_event_id(), **fields})


def _wishes(session: Session) -> tuple[object, ...]:
    """Return the settings that a stream keeps from its start, but for the format."""
    return session.model, session.turn_detection, session.language, session.languages, session.keywords, session.prompt


def _event_id() -> dict[str, str]:
    return {"event_id": new_id("event")}
