"""POST /v1/audio/transcriptions and translations, OpenAI's API: a file in, its text out, whole or as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

from asrloop_client import AsrError, Progress, Transcript
from starlette.requests import Request
from starlette.responses import Response

from asrloop_gateway.asked import Asked
from asrloop_gateway.chunking import cut_at_pauses
from asrloop_gateway.errors import ApiError, bad_request, from_asr
from asrloop_gateway.events import EventResponse, OnProgress, events_of
from asrloop_gateway.fields import TRANSLATE, FormFields, parse_fields
from asrloop_gateway.formats import FORMATS, seconds_of
from asrloop_gateway.gateway import Gateway, Outcome
from asrloop_gateway.traces import trace_headers
from asrloop_gateway.uploads import form_of

T = TypeVar("T")


class Transcriptions:
    """Route /v1/audio/transcriptions, or, with the task `translate`, /v1/audio/translations."""

    def __init__(self, gateway: Gateway, task: str = "") -> None:
        self._gateway, self._task = gateway, task
        self._route = "translations" if task == TRANSLATE else "transcriptions"

    async def post(self, request: Request) -> Response:
        """Answer an upload. Raises ApiError."""
        async with AsyncExitStack() as held:
            outcome = held.enter_context(self._gateway.running(self._route))
            caller = self._gateway.admission.admit(request)
            if self._task:
                await self._check_task("", *await self._gateway.recognizers.names())
            return await self._gateway.until_over(self._answer(request, caller, held, outcome))

    async def _check_task(self, *models: str) -> None:
        """Raise ApiError 400 where none of the models can translate, and 503 where no server is there."""
        await self._gateway.server_there()
        for model in models:
            if await self._gateway.takes(Asked(model, task=self._task)) is not False:
                return
        raise _cannot_translate()

    async def _answer(self, request: Request, caller: str, held: AsyncExitStack, outcome: Outcome) -> Response:
        gateway = self._gateway
        on_bytes = held.enter_context(gateway.upload(caller))
        form = await held.enter_async_context(form_of(request, gateway.settings, on_bytes))
        fields = parse_fields(form, gateway.settings, self._task)
        gateway.metrics.bytes.labels(self._route).inc(form.size)
        until = time.monotonic() + gateway.settings.transcription_seconds

        async def loaded() -> tuple[bytes, Asked]:
            await gateway.server_there()
            asked = replace(fields.asked, model=await gateway.recognizers.named(fields.response.model))
            if self._task:
                await self._check_task(asked.model)
            asked = await gateway.speaking(asked, fields.languages)
            asked = await gateway.prompted(asked, fields.prompt)
            await held.enter_async_context(gateway.memory(form.size, caller, until - time.monotonic()))
            return await form.file.read(), asked

        content, asked = await _while_connected(request, loaded())
        fields = replace(fields, asked=asked)
        if not fields.stream:
            transcript = await _while_connected(request, self._transcribe(request, content, fields, until))
            return FORMATS[fields.format](transcript, fields.response)

        def transcribe(on_progress: OnProgress) -> Coroutine[Any, Any, Transcript]:
            return gateway.until_over(self._transcribe(request, content, fields, until, on_progress))

        events = events_of(transcribe, fields.tells)
        held.push_async_callback(events.aclose)
        # An error before the first event still sets the HTTP status.
        first = await anext(events)
        return EventResponse(first, events, outcome, held.pop_all())

    async def _transcribe(
        self, request: Request, content: bytes, fields: FormFields, until: float, on_progress: OnProgress | None = None
    ) -> Transcript:
        """Transcribe a file until a moment of time.monotonic(). Cancelling this also ends the server's work. Raises ApiError."""
        loop = asyncio.get_running_loop()

        def tell(progress: Progress) -> None:
            if on_progress is not None:
                loop.call_soon_threadsafe(on_progress, progress)

        try:
            transcript = await self._gateway.client.transcribe(
                content,
                model=fields.asked.model,
                timeout=max(0.0, until - time.monotonic()),
                headers=trace_headers(request.headers),
                on_progress=tell if on_progress else None,
                parameters=fields.asked.parameters,
                request_id=request.state.request_id,
            )
        except AsrError as error:
            if self._task and error.code == "invalid_option" and (error.detail or "").startswith("task "):
                raise _cannot_translate() from error
            told = from_asr(error, request.state.request_id, fields.of_options)
            if told.param == "language" and (others := await self._others(fields.asked)):
                told = bad_request(
                    told.code, f"{told.message} Of the other models {', '.join(others)} have it.", told.param
                )
            raise told from error
        self._gateway.metrics.audio.labels(self._route).inc(seconds_of(transcript))
        cut = transcript if fields.pause is None else cut_at_pauses(transcript, fields.pause)
        # Words that only pauses or speakers needed are not shown.
        return cut if fields.tells.words else replace(cut, words=())

    async def _others(self, asked: Asked) -> list[str]:
        """Return the models that have the language that the one that was asked lacks."""
        return await self._gateway.others_that_take(Asked(asked.model, language=asked.language))


def _cannot_translate() -> ApiError:
    return bad_request(
        "not_supported",
        "Translation is not supported by the served model. /v1/audio/transcriptions gives the text in the language spoken.",
    )


async def _while_connected(request: Request, call: Coroutine[Any, Any, T]) -> T:
    """Return the result of `call`. When the caller disconnects, cancel it and raise ApiError 499."""
    working, gone = asyncio.ensure_future(call), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(499, "disconnected", "The client disconnected before the response.")
    finally:
        working.cancel()
        gone.cancel()
        # Also looks at their errors: asyncio logs those that nobody looked at.
        await asyncio.gather(working, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
