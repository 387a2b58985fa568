"""AsrClient for threads and AsyncAsrClient for asyncio: two thin faces before one core, which runs on a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar, Unpack

from asrloop_client.audio import Audio
from asrloop_client.core import Core
from asrloop_client.endpoints import ServerState
from asrloop_client.errors import AsrError, Cancelled, ClientClosed, ClientForked, require, result_of
from asrloop_client.live import Live
from asrloop_client.settings import CallOptions, Settings, StreamOptions
from asrloop_client.stream import AnySource, AsyncStream, Source, Stream
from asrloop_client.transcript import Transcript

T = TypeVar("T")
Future = concurrent.futures.Future
Count = Callable[[int, int | None], object]
"""Called with how many are done and how many there are (None if `audios` has no length), before each result is handed out."""

_LOOKAHEAD = 4
"""Bulk work is prepared at most this many times `concurrency` ahead of the result that is waited for."""
_CLOSE_SECONDS = 5.0
_CORES: weakref.WeakSet[Core] = weakref.WeakSet()


class CancelToken:
    """Given to calls; `cancel()` from any thread ends them, and every later one, with Cancelled and tells the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        self.cancelled = False
        """Whether `cancel()` was called."""

    def cancel(self) -> None:
        """Stop the calls. A second time does nothing."""
        with self._lock:
            self.cancelled = True
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def _add(self, future: Future[Any]) -> None:
        with self._lock:
            self._futures.add(future)
        if self.cancelled:
            future.cancel()


class BulkOptions(CallOptions, total=False):
    """What a call for many audios may set besides; its `timeout` is that of each, from when its turn comes."""

    concurrency: int
    """At most so many at a time (default 8)."""
    progress: Count | None
    cancel: CancelToken | None


@dataclass(frozen=True)
class Outcome:
    """What became of one audio of many: a transcript or an error."""

    index: int
    """Its place in what was given, from 0."""
    audio: Audio
    transcript: Transcript | None
    error: AsrError | None

    def result(self) -> Transcript:
        """The transcript; raises the error."""
        if self.transcript is None:
            raise self.error or AssertionError("an outcome has a transcript or an error")
        return self.transcript


class _Client(Settings):
    """What both faces share: the thread with the loop that the core runs in, and the work that is given to it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_after_fork()
        # With a copy of the settings: whoever holds the client keeps it from being closed when it is dropped.
        self._core = Core(Settings(**vars(self)))
        _CORES.add(self._core)
        self._loop = asyncio.new_event_loop()
        self._loop.set_debug(False)  # it is ours; development mode is for the program's own
        self._thread = threading.Thread(target=_run_loop, args=(self._loop,), name="asrloop-client", daemon=True)
        self._thread.start()
        # Runs at the latest when the interpreter exits.
        self._finalizer = weakref.finalize(self, _shut_down, self._core, self._loop, self._thread)

    def stats(self) -> list[ServerState]:
        """This client's view of each server: in or out, calls, pool."""
        return [endpoint.state() for endpoint in self._core.endpoints]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(f'{each.address}: {each.pool!r}' for each in self._core.endpoints)}>"

    def _submit(self, make: Callable[[], Coroutine[Any, Any, T]], cancel: CancelToken | None = None) -> Future[T]:
        """Run what `make` makes in the core's loop."""
        _refuse_after_fork()
        if self._core.closed or not self._finalizer.alive:
            raise ClientClosed("the client is closed. Make a new one.")
        if cancel is not None and cancel.cancelled:
            raise Cancelled("the call was cancelled by the caller before it began.")
        future = asyncio.run_coroutine_threadsafe(make(), self._loop)
        if cancel is not None:
            cancel._add(future)
        return future


class _Bulk:
    """Many transcriptions, begun a little ahead of the outcomes that are asked for."""

    def __init__(
        self,
        client: _Client,
        audios: Iterable[Audio],
        ordered: bool,
        *,
        concurrency: int = 8,
        progress: Count | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[CallOptions],
    ) -> None:
        whole = isinstance(concurrency, int) and concurrency >= 1
        require(whole, f"concurrency is {concurrency}: give a whole number of 1 or more")
        require(not isinstance(audios, str | bytes), "audios is a single one: give a list, or use transcribe")
        self._client, self._gate, self._cancel, self._options = client, asyncio.Semaphore(concurrency), cancel, options
        self._ordered, self._progress, self._most = ordered, progress, _LOOKAHEAD * concurrency
        self._audios = enumerate(audios)
        self._done, self._total = 0, len(audios) if isinstance(audios, Sized) else None
        self._calls: set[Future[Transcript]] = set()
        self._unfilled: deque[Future[Outcome]] = deque()

    def outcomes(self) -> Generator[Future[Outcome], None, None]:
        """To be waited for in turn: each gets the outcome of its own audio if `ordered`, else the next that is there."""
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

    def counted(self, outcome: Outcome) -> Outcome:
        """The outcome, after its progress was told."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        return outcome

    def _start(self, index: int, audio: Audio) -> Future[Outcome]:
        own: Future[Outcome] = Future()
        own.set_running_or_notify_cancel()  # so that nobody can cancel it but by its call
        self._unfilled.append(own)
        begin = partial(self._client._core.transcribe, audio, self._gate, **self._options)
        call = self._client._submit(begin, self._cancel)
        self._calls.add(call)
        call.add_done_callback(partial(self._settle, own, index, audio))
        return own

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


class AsrClient(_Client):
    """Transcribes through one or several servers; threads may share one. Connects at once unless `prewarm` is off.

    Its keywords are the fields of Settings.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prewarm:
            try:
                result_of(self._submit(self._core.start))
            except BaseException:
                self.close()
                raise

    def transcribe(
        self, audio: Audio, *, cancel: CancelToken | None = None, **options: Unpack[CallOptions]
    ) -> Transcript:
        """Transcribe a file, the bytes of one, or samples [N]. Raises AsrError.

        Repeated after a lost connection under the same `request_id`: a transcription changes nothing at the server, so
        it may be done twice.
        """
        return result_of(self._submit(lambda: self._core.transcribe(audio, **options), cancel))

    def transcribe_many(
        self, audios: Iterable[Audio], *, return_errors: bool = False, **options: Unpack[BulkOptions]
    ) -> Iterator[Any]:
        """Transcribe all, some at a time, and yield the Transcripts in order.

        An error is raised in its place, or yielded with `return_errors`. Ending the iteration cancels what still runs.
        """
        return (_value(each, return_errors) for each in self._outcomes(_Bulk(self, audios, True, **options)))

    def as_completed(self, audios: Iterable[Audio], **options: Unpack[BulkOptions]) -> Iterator[Outcome]:
        """As transcribe_many, but each with its input as soon as it is done; errors are in the outcomes."""
        return self._outcomes(_Bulk(self, audios, False, **options))

    def stream(self, source: Source | None = None, **options: Unpack[StreamOptions]) -> Stream:
        """Live audio: a context manager and an iterator of StreamEvents. Raises AsrError while it runs.

        `source` gives the chunks, mono: samples (float in -1..1 or int16) or bytes of 16-bit PCM, of any length, and is read by a
        thread; without one, call `send` and `finish`. Leaving the block early cancels the stream at the server.
        """
        return Stream(self._submit, Live(self._core, **options), source)

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return when a server and a model of it answer; raises DeadlineExceeded after `timeout` s."""
        result_of(self._submit(lambda: self._core.wait_until_ready(timeout)))

    def health(self, deep: Audio | None = None) -> list[ServerState]:
        """Ask every server now; with `deep` also for the transcript of that audio."""
        return result_of(self._submit(lambda: self._core.health(deep)))

    def close(self) -> None:
        """Close all channels; calls still running fail with ClientClosed. A second time does nothing."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _outcomes(self, bulk: _Bulk) -> Iterator[Outcome]:
        with contextlib.closing(bulk.outcomes()) as futures:
            yield from map(bulk.counted, map(result_of, futures))


class AsyncAsrClient(_Client):
    """AsrClient for asyncio: the same methods, settings and errors, in any loop.

    `async with AsyncAsrClient(...)` connects at once; otherwise the first call does, and waits for a server. Cancelling a
    task cancels its call at the server; ending an iteration (`aclose`) cancels what still runs.
    """

    async def start(self) -> None:
        """Connect; raises ServerGone if no server can be reached, ModelNotReady if none loads a model in time."""
        await asyncio.wrap_future(self._submit(self._core.start))

    async def transcribe(self, audio: Audio, **options: Unpack[CallOptions]) -> Transcript:
        """As AsrClient.transcribe."""
        return await asyncio.wrap_future(self._submit(lambda: self._core.transcribe(audio, **options)))

    def transcribe_many(
        self, audios: Iterable[Audio], *, return_errors: bool = False, **options: Unpack[BulkOptions]
    ) -> AsyncIterator[Any]:
        """As AsrClient.transcribe_many."""
        return self._outcomes(_Bulk(self, audios, True, **options), lambda each: _value(each, return_errors))

    def as_completed(self, audios: Iterable[Audio], **options: Unpack[BulkOptions]) -> AsyncIterator[Outcome]:
        """As AsrClient.as_completed."""
        return self._outcomes(_Bulk(self, audios, False, **options), lambda each: each)

    def stream(self, source: AnySource | None = None, **options: Unpack[StreamOptions]) -> AsyncStream:
        """As AsrClient.stream; `source` may be an async iterable, too."""
        return AsyncStream(self._submit, Live(self._core, **options), source)

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """As AsrClient.wait_until_ready."""
        await asyncio.wrap_future(self._submit(lambda: self._core.wait_until_ready(timeout)))

    async def health(self, deep: Audio | None = None) -> list[ServerState]:
        """As AsrClient.health."""
        return await asyncio.wrap_future(self._submit(lambda: self._core.health(deep)))

    async def close(self) -> None:
        """As AsrClient.close."""
        await asyncio.to_thread(self._finalizer)

    async def __aenter__(self) -> Self:
        if self.prewarm:
            try:
                await self.start()
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _outcomes(self, bulk: _Bulk, value: Callable[[Outcome], T]) -> AsyncIterator[T]:
        with contextlib.closing(bulk.outcomes()) as futures:
            for future in futures:
                yield value(bulk.counted(await asyncio.wrap_future(future)))


def _value(outcome: Outcome, return_errors: bool) -> Transcript | AsrError:
    return outcome.error if return_errors and outcome.error is not None else outcome.result()


def _refuse_after_fork() -> None:
    """ClientForked in a child of a process that had a client open: its thread is not there, and gRPC would crash."""
    for core in _CORES:
        if core.pid != os.getpid() and not core.closed:
            raise ClientForked(
                f"a client of process {core.pid} was open when it forked process {os.getpid()}, in which no client works. "
                "Start workers with the `spawn` method, or make the first client after the fork."
            )


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()


def _shut_down(core: Core, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    # In a forked child the thread and the sockets are the parent's.
    if core.pid != os.getpid() or not thread.is_alive():
        return

    closing = asyncio.run_coroutine_threadsafe(core.close(), loop)
    closing.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
    # The last reference may go in the loop's own thread, which cannot wait for itself.
    if threading.current_thread() is not thread:
        with contextlib.suppress(concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            closing.result(_CLOSE_SECONDS)
        thread.join(_CLOSE_SECONDS)
