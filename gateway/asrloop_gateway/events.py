"""Transcription as server-sent events, named as in OpenAI's API. Deltas only add text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from asrloop_client import Progress, Transcript
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from asrloop_gateway.errors import ApiError
from asrloop_gateway.formats import asked_logprobs, languages, rounded, seconds_of, told, told_segment, usage
from asrloop_gateway.gateway import GONE, Outcome

OnProgress = Callable[[Progress], object]
Transcribe = Callable[[OnProgress], Coroutine[Any, Any, Transcript]]
_HEARTBEAT_SECONDS = 10.0
"""Send a comment after this long without an event, so that proxies keep the connection open."""


class EventResponse(StreamingResponse):
    """Response of events, of which the first is known; closes `held` after the last one, or when the caller disconnects."""

    def __init__(self, first: str, rest: AsyncGenerator[str, None], outcome: Outcome, held: AsyncExitStack) -> None:
        headers = {"X-Accel-Buffering": "no"}
        super().__init__(self._all(first, rest, outcome), media_type="text/event-stream", headers=headers)
        self._held, self._outcome = held, outcome
        self._complete = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)
            if not self._complete:
                self._outcome.status = GONE

    async def _all(self, first: str, rest: AsyncGenerator[str, None], outcome: Outcome) -> AsyncGenerator[str, None]:
        yield first
        try:
            async for event in rest:
                yield event
        except ApiError as error:
            outcome.status = error.status
            yield "event: error\n" + _event("error", **error.body)
        self._complete = True


@dataclass(frozen=True)
class Tells:
    """What the events tell besides the text."""

    progress: bool = False
    segments: bool = False
    words: bool = False
    logprobs: bool = False


async def events_of(transcribe: Transcribe, tells: Tells) -> AsyncGenerator[str, None]:
    """Yield the events of a transcription, which is cancelled when this generator is closed. Raises ApiError."""
    news = asyncio.Queue[Progress]()
    said = ""
    call, waiting = asyncio.ensure_future(transcribe(news.put_nowait)), asyncio.ensure_future(news.get())
    try:
        while not call.done():
            await asyncio.wait({call, waiting}, timeout=_HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                if not call.done():
                    yield ": waiting\n\n"
                continue
            progress, waiting = waiting.result(), asyncio.ensure_future(news.get())
            if tells.progress:
                yield _event("transcript.progress", seconds=rounded(progress.done), duration=rounded(progress.known))
            if len(progress.text) > len(said) and progress.text.startswith(said):
                yield _event("transcript.text.delta", delta=progress.text[len(said) :])
                said = progress.text
        transcript = call.result()
    finally:
        call.cancel()
        waiting.cancel()
        # Also looks at their errors: asyncio logs those that nobody looked at.
        await asyncio.gather(call, waiting, return_exceptions=True)
    for event in _last(transcript, said, tells):
        yield event


def _last(transcript: Transcript, said: str, tells: Tells) -> Iterator[str]:
    # A server that took over from one that died may give another text: then only `done` has the right one.
    if len(transcript.text) > len(said) and transcript.text.startswith(said):
        yield _event("transcript.text.delta", delta=transcript.text[len(said) :])
    if tells.segments:
        for number, each in enumerate(transcript.segments):
            yield _data(told_segment(number, each))
    more = {
        "duration": rounded(seconds_of(transcript)),
        **languages(transcript),
        **({"words": [told(word) for word in transcript.words]} if tells.words else {}),
        **asked_logprobs(transcript, tells.logprobs),
    }
    yield _event("transcript.text.done", text=transcript.text, **more, usage=usage(transcript))


def _event(kind: str, **fields: Any) -> str:
    return _data({"type": kind, **fields})


def _data(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
