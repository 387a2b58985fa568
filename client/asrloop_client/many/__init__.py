"""Many transcriptions at a time, begun a little ahead of the outcomes that are asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sized
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

from asrloop_client.audio import Audio
from asrloop_client.background import result_of
from asrloop_client.call import transcribe
from asrloop_client.control.cancel import CancelToken
from asrloop_client.errors import AsrError, Cancelled, require
from asrloop_client.servers import Servers
from asrloop_client.settings import CallOptions
from asrloop_client.transcript import Transcript

Count = Callable[[int, int | None], object]
"""Called with the number done and the total (None if `audios` has no length), before each result is handed out."""

_LOOKAHEAD = 4
"""Calls are prepared at most this many times `concurrency` ahead of the result that is waited for."""


class BulkOptions(CallOptions, total=False):
    """Options of calls for many audios; `timeout` is that of each, from when its turn comes."""

    concurrency: int
    """At most so many at a time (default 8)."""
    progress: Count | None
    cancel: CancelToken | None


@dataclass(frozen=True)
class Outcome:
    """The outcome of one audio of many: a transcript or an error."""

    index: int
    """Its place in the input, from 0."""
    audio: Audio
    transcript: Transcript | None
    error: AsrError | None

    def result(self) -> Transcript:
        """Return the transcript, or raise the error."""
        if self.transcript is None:
            raise self.error or AssertionError("an outcome has a transcript or an error")
        return self.transcript


class Bulk:
    """An iterable of the transcriptions of many audios, for threads and for asyncio.

    With `return_errors` True or False it gives Transcripts in the order of the audios, and gives or raises errors in their
    places; with None it gives Outcomes as they come. Ending the iteration cancels what still runs.
    """

    def __init__(
        self,
        submit: Callable[..., Future[Transcript]],
        servers: Servers,
        audios: Iterable[Audio],
        return_errors: bool | None,
        *,
        concurrency: int = 8,
        progress: Count | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[CallOptions],
    ) -> None:
        whole = isinstance(concurrency, int) and concurrency >= 1
        require(whole, f"concurrency is {concurrency}: give a whole number of 1 or more")
        require(not isinstance(audios, str | bytes), "audios is a single audio: give a list, or use transcribe")
        self._submit, self._servers, self._cancel, self._options = submit, servers, cancel, options
        self._gate, self._most = asyncio.Semaphore(concurrency), _LOOKAHEAD * concurrency
        self._return_errors, self._ordered, self._progress = return_errors, return_errors is not None, progress
        self._audios = enumerate(audios)
        self._done, self._total = 0, len(audios) if isinstance(audios, Sized) else None
        self._calls: set[Future[Transcript]] = set()
        self._unfilled: deque[Future[Outcome]] = deque()

    def __iter__(self) -> Iterator[Any]:
        with contextlib.closing(self._futures()) as futures:
            for future in futures:
                yield self._counted(result_of(future))

    async def __aiter__(self) -> AsyncIterator[Any]:
        with contextlib.closing(self._futures()) as futures:
            for future in futures:
                yield self._counted(await asyncio.wrap_future(future))

    def _futures(self) -> Generator[Future[Outcome], None, None]:
        """Yield a future for each audio, which gets its outcome if ordered, else the next outcome that is there."""
        ahead: deque[Future[Outcome]] = deque()
        try:
            while True:
                while len(ahead) < self._most and (found := next(self._audios, None)):
                    ahead.append(self._start(*found))
                if not ahead:
                    return
                yield ahead.popleft()
        finally:
            for call in list(self._calls):
                call.cancel()

    def _counted(self, outcome: Outcome) -> Any:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        if self._return_errors is None:
            return outcome
        return outcome.error if self._return_errors and outcome.error else outcome.result()

    def _start(self, index: int, audio: Audio) -> Future[Outcome]:
        own: Future[Outcome] = Future()
        own.set_running_or_notify_cancel()  # so that nobody can cancel it but by its call
        self._unfilled.append(own)
        call = self._submit(partial(self._transcribe, audio), self._cancel)
        self._calls.add(call)
        call.add_done_callback(partial(self._settle, own, index, audio))
        return own

    async def _transcribe(self, audio: Audio) -> Transcript:
        async with self._gate:
            return await transcribe(self._servers, audio, **self._options)

    def _settle(self, own: Future[Outcome], index: int, audio: Audio, call: Future[Transcript]) -> None:
        self._calls.discard(call)
        first = self._unfilled.popleft()
        place = own if self._ordered else first
        error = Cancelled("the call was cancelled by the caller.") if call.cancelled() else call.exception()
        if error is None:
            place.set_result(Outcome(index, audio, call.result(), None))
        elif isinstance(error, AsrError):
            place.set_result(Outcome(index, audio, None, error))
        else:
            place.set_exception(error)
