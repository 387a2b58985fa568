"""State that all routes share: settings, client of the servers, admission, metrics, shutdown. Knows no protocol."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from asrloop_client import AsrError, AsyncAsrClient, AsyncStream, DeadlineExceeded, InvalidOption, PoolConfig

from asrloop_gateway.admission import Admission
from asrloop_gateway.asked import Asked
from asrloop_gateway.budget import Budget
from asrloop_gateway.errors import LOG, ApiError, bad_request, closing, overloaded, unavailable
from asrloop_gateway.metrics import Metrics
from asrloop_gateway.prompts import cleaned, terms_of
from asrloop_gateway.recognizers import DEFAULT, Recognizers, family_in, languages_in
from asrloop_gateway.settings import Settings

_CALLS_PER_CHANNEL = 8
"""Live streams keep their channel until they end."""
OnBytes = Callable[[int], None]
_COPIES = 3
"""Copies of an upload in memory while it is sent: its bytes, the message, and gRPC's buffer."""
GONE = 499
"""Status in the metrics for a caller that disconnected before the response."""
_END_SECONDS = 2.0
"""Longest time to tell callers that the gateway ends."""
_ANSWER_SECONDS, _MOST_ANSWERS = 60.0, 256
"""So many answers of the servers about what they take are kept, and asked for again after so long."""
_QUESTION_SECONDS = 2.0
_NO_LANGUAGE = "qaa"
"""A code that ISO 639 gives to no language."""
_SILENCE = np.zeros(1600, np.float32)

T = TypeVar("T")


def _too_many(message: str) -> ApiError:
    return ApiError(429, "too_many_uploads", f"{message} Wait for one to end.", retry_after=10)


@dataclass
class Outcome:
    """HTTP status that the metrics count."""

    status: int


class _Answer(NamedTuple):
    """What the servers said to what is asked."""

    refusal: str
    """Why they refuse it; "" where they take it."""
    asked_at: float


class Gateway:
    """State of a running gateway. Belongs to one asyncio loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.admission = Admission(settings)
        self.metrics = Metrics()
        self.started = int(time.time())
        channels = -(-(settings.transcriptions + settings.sockets) // _CALLS_PER_CHANNEL) + 1
        self.client = AsyncAsrClient(
            settings.server,
            prewarm=False,
            timeout=settings.transcription_seconds,
            server_timeout=settings.server_seconds,
            pool=PoolConfig(min_channels=min(4, channels), max_channels=channels, calls_per_channel=_CALLS_PER_CHANNEL),
            probe_interval=10.0,
        )
        self.recognizers = Recognizers(self.client, settings.recognizers, settings.model_aliases)
        self.closing = asyncio.Event()
        """Set when the gateway stops: new requests are refused, running ones finish."""
        self._over = asyncio.Event()
        """Set when running ones may not finish any more."""
        self._running = 0
        self._uploads: Counter[str] = Counter()
        self._on_disk: Counter[str] = Counter()
        """Uploads in progress and their bytes, by caller."""
        self._memory = Budget(int(settings.memory_megabytes * 1e6))
        self._answers: dict[Asked, _Answer] = {}

    @contextmanager
    def running(self, route: str, status: int = 200) -> Iterator[Outcome]:
        """Count a request or a socket, with `status` unless it fails. Raises ApiError when the gateway stops."""
        began, outcome = time.monotonic(), Outcome(status)
        self._running += 1
        self.metrics.running.labels(route).inc()
        try:
            if self.closing.is_set():
                raise closing()
            yield outcome
        except ApiError as error:
            outcome.status = error.status
            raise
        except asyncio.CancelledError:
            outcome.status = GONE
            raise
        except BaseException:
            outcome.status = 500
            raise
        finally:
            self._running -= 1
            self.metrics.running.labels(route).dec()
            self.metrics.requests.labels(route, outcome.status).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - began)

    @contextmanager
    def upload(self, caller: str) -> Iterator[OnBytes]:
        """Count an upload while it is read and transcribed; yields a function that counts its bytes on disk.

        Raises ApiError 429 above the caller's share of uploads or of bytes, 503 above the limit for all, the function too.
        """
        settings = self.settings
        if self._uploads[caller] >= settings.transcriptions_per_caller:
            raise _too_many(f"You have {self._uploads[caller]} uploads in progress, which is the limit.")
        if self._uploads.total() >= settings.transcriptions:
            raise overloaded(f"{self._uploads.total()} uploads are in progress, which is the limit. Try again later.")
        self._uploads[caller] += 1
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            share = int(1e6 * settings.disk_megabytes_per_caller)
            # A single upload may have more: its own limit is upload_megabytes.
            if mine < self._on_disk[caller] and self._on_disk[caller] + size > share:
                raise _too_many(f"Your uploads in progress have {self._on_disk[caller]} bytes. The limit is {share}.")
            if self._on_disk.total() + size > (most := int(1e6 * settings.disk_megabytes)):
                message = f"Uploads take {self._on_disk.total()} bytes of disk. The limit is {most}. Try again later."
                raise overloaded(message)
            self._on_disk[caller] += size
            mine += size
            self.metrics.upload_bytes.set(self._on_disk.total())

        try:
            yield take
        finally:
            self._uploads -= Counter({caller: 1})  # also forgets a caller who has none left
            self._on_disk -= Counter({caller: mine})
            self.metrics.upload_bytes.set(self._on_disk.total())

    @asynccontextmanager
    async def memory(self, size: int, caller: str, seconds: float) -> AsyncIterator[None]:
        """Hold the memory for sending an upload of `size` bytes. Raises ApiError 503 when there is not enough within `seconds`."""
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self._memory.share(_COPIES * size, caller, seconds))
            except TimeoutError:
                raise overloaded("The memory for uploads is in use. Try again later, or send a smaller file.") from None
            yield

    async def server_there(self) -> None:
        """Wait until a server is ready. Raises ApiError 503 when none is in time."""
        if any(state.ready for state in self.client.stats()):
            return
        try:
            await self.client.wait_until_ready(self.settings.server_seconds)
        except DeadlineExceeded:
            raise unavailable() from None

    def stream(self, rate: int, asked: Asked) -> AsyncStream:
        """Open live audio of `rate` Hz. When its server is lost, another one gets the open segment."""
        return self.client.stream(
            model=asked.model,
            sample_rate=rate,
            timeout=self.settings.server_seconds,
            resume=True,
            parameters=asked.parameters,
        )

    async def speaking(self, asked: Asked, languages: Sequence[str]) -> Asked:
        """Return `asked` with the only one of `languages` that its model has; of several the model finds which is spoken.

        Raises ApiError 400 where it has none of them.
        """
        if len(languages) > 1:
            answers = await asyncio.gather(*(self.takes(Asked(asked.model, each)) for each in languages))
            languages = [each for each, takes in zip(languages, answers, strict=True) if takes is not False]
            if not languages:
                message = "languages[] has none that the model speaks. Leave it out to let the model decide."
                raise bad_request("invalid_option", message, "languages[]")
        return replace(asked, language=languages[0]) if len(languages) == 1 else asked

    async def prompted(self, asked: Asked, prompt: str) -> Asked:
        """Return `asked` with a prompt, or, where the servers take none, with the key terms in it, if it has none of its own.

        No prompt may fail a request: what the servers do not take is left out.
        """
        if not (text := cleaned(prompt)):
            return asked
        takes_prompt = await self.takes(Asked(asked.model, prompt="."))
        if takes_prompt:
            return replace(asked, prompt=text)
        terms = () if asked.key_terms else terms_of(prompt)
        if not terms:
            return asked
        takes_terms = await self.takes(Asked(asked.model, key_terms=terms))
        # Servers that have no time for a question mostly take terms, but for those that take prompts.
        is_likely = takes_terms is None and takes_prompt is False
        return replace(asked, key_terms=terms) if takes_terms or is_likely else asked

    async def takes(self, asked: Asked) -> bool | None:
        """Return False where the servers refuse what is asked, None where none had time to tell.

        They are asked with a moment of silence, once in a while.
        """
        refusal = await self._refusal(asked)
        return None if refusal is None else not refusal

    async def others_that_take(self, asked: Asked) -> list[str]:
        """Return the names of the recognizers that take what the one that is asked refuses."""
        others = {DEFAULT, *await self.recognizers.names()} - {asked.model}
        return [name or "asr_file" for name in sorted(others) if await self.takes(replace(asked, model=name))]

    async def described(self, model: str) -> dict[str, Any]:
        """Return the family of a recognizer and the ISO 639 codes of what it speaks; none where it has no time to tell."""
        refusal = await self._refusal(Asked(model, language=_NO_LANGUAGE)) or ""
        return {"family": family_in(refusal), "languages": languages_in(refusal)}

    async def _refusal(self, asked: Asked) -> str | None:
        """Return why the servers refuse what is asked: "" where they take it, None where none had time to tell."""
        known, now = self._answers.get(asked), time.monotonic()
        if known is not None and now - known.asked_at <= _ANSWER_SECONDS:
            return known.refusal
        refusal = await self._ask(asked)
        if refusal is None:
            return known and known.refusal
        self._answers[asked] = _Answer(refusal, now)
        while len(self._answers) > _MOST_ANSWERS:
            del self._answers[next(iter(self._answers))]
        return refusal

    async def _ask(self, asked: Asked) -> str | None:
        try:
            await self.client.transcribe(
                _SILENCE, model=asked.model, timeout=_QUESTION_SECONDS, parameters=asked.parameters
            )
        except InvalidOption as error:
            return error.detail
        except AsrError:
            return None
        return ""

    async def until_over(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`. Raises ApiError 503, and cancels it, when it outlasts the gateway."""
        working, over = asyncio.ensure_future(work), asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({working, over}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise closing()
        finally:
            over.cancel()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def drain(self) -> None:
        """Refuse new requests, wait up to `drain_seconds` for running ones, and end the rest."""
        self.closing.set()
        await self._wait(self.settings.drain_seconds)
        self.end()
        await self._wait(_END_SECONDS)

    async def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._running and time.monotonic() < until:
            await asyncio.sleep(0.05)

    def end(self) -> None:
        """End all that still runs: requests get 503, events an error, sockets a close code."""
        if self._running and not self._over.is_set():
            LOG.warning(
                "%d requests and sockets ran when the gateway stopped, and were told `closing`. Raise drain_seconds.",
                self._running,
            )
        self._over.set()
