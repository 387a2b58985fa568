"""AsrClient for threads and AsyncAsrClient for asyncio: two thin faces before one core, which runs on a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from asrloop_client.audio import Audio
from asrloop_client.channel import TlsConfig
from asrloop_client.core import CallOptions, Core, Headers, ModelStatistics, ServerHealth, Settings
from asrloop_client.endpoints import EndpointStats
from asrloop_client.errors import AsrError, Cancelled, ClientClosed, ClientForked, require
from asrloop_client.pool import PoolConfig
from asrloop_client.transcript import Transcript

T = TypeVar("T")
Progress = Callable[[int, int | None], object]
"""Called with how many are done and how many there are (None if `audios` has no length), before each result is handed out."""

Begun = tuple[int, Audio, concurrent.futures.Future[Transcript]]
Start = Callable[[], Begun | None]

DEFAULT_SERVER = "localhost:8001"
SERVERS_VARIABLE, TOKEN_VARIABLE = "ASR_CLIENT_SERVERS", "ASR_CLIENT_TOKEN"
TOKEN_HEADER = "triton-grpc-protocol-token"  # noqa: S105 - a header's name
_LOOKAHEAD = 4
"""Bulk work is prepared at most this many times `concurrency` ahead of the result that is waited for."""
_CLOSE_SECONDS = 5.0
_CORES: weakref.WeakSet[Core] = weakref.WeakSet()


class CancelToken:
    """Given to calls; `cancel()` from any thread ends them, and every later one, with Cancelled and tells the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: set[concurrent.futures.Future[Any]] = set()
        self.cancelled = False
        """Whether `cancel()` was called."""

    def cancel(self) -> None:
        """Stop the calls. A second time does nothing."""
        with self._lock:
            self.cancelled = True
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def _add(self, future: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._futures.add(future)
        future.add_done_callback(self._discard)
        if self.cancelled:
            future.cancel()

    def _discard(self, future: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._futures.discard(future)


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


class _Client:
    """What both clients are made with, and the thread with the loop that their core runs in."""

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        model: str = "asr_ensemble",
        file_model: str = "asr_file",
        loop_model: str = "decoder_loop",
        timeout: float = 60.0,
        fail_fast: bool = False,
        prewarm: bool = True,
        pooling: bool = True,
        pool: PoolConfig | None = None,
        probe_interval: float = 60.0,
        probe_timeout: float = 2.0,
        headers: Headers | None = None,
        token: str | None = None,
        token_header: str = TOKEN_HEADER,
        tls: TlsConfig | None = None,
    ) -> None:
        """Args:
        servers: one gRPC address `host:port` or several; default: the variable ASR_CLIENT_SERVERS, else localhost:8001.
        model: takes samples (WAV). file_model: takes the bytes of a file (AUDIO). loop_model: cancels by key.
        timeout: seconds for one transcription, everything included.
        fail_fast: raise the first failure that no other server can mend, instead of waiting until the deadline.
        prewarm: connect at the start; ServerGone if no server answers. False: the first call connects, and waits.
        pooling: False opens a channel per request and closes it after.
        probe_interval: seconds between probes of a server while all is well. probe_timeout: seconds for a probe's answer.
        headers: gRPC metadata with lower-case names, or a function that gives it for each call (tracing).
        token: default: the variable ASR_CLIENT_TOKEN. `--grpc-restricted-protocol=inference:KEY=TOKEN` wants the
            token_header `triton-grpc-protocol-KEY`.
        """  # fmt: skip
        given = os.environ.get(SERVERS_VARIABLE, "").replace(",", " ") or DEFAULT_SERVER if servers is None else servers
        self.settings = Settings(
            servers=given.split() if isinstance(given, str) else list(given),
            model=model, file_model=file_model, loop_model=loop_model, timeout=timeout, fail_fast=fail_fast,
            pooling=pooling, pool=pool or PoolConfig(), probe_interval=probe_interval, probe_timeout=probe_timeout,
            headers=headers or {}, token=os.environ.get(TOKEN_VARIABLE) if token is None else token,
            token_header=token_header, tls=tls,
        )  # fmt: skip
        self._prewarm = prewarm
        _refuse_after_fork()
        self._core = Core(self.settings)
        _CORES.add(self._core)
        self._loop = asyncio.new_event_loop()
        self._loop.set_debug(False)  # it is ours; development mode is for the program's own
        self._thread = threading.Thread(target=_run_loop, args=(self._loop,), name="asrloop-client", daemon=True)
        self._thread.start()
        # Runs at the latest when the interpreter exits; it must not hold the client.
        self._finalizer = weakref.finalize(self, _shut_down, self._core, self._loop, self._thread)
        self._opened()

    def _opened(self) -> None:
        """The client is made."""

    def stats(self) -> list[EndpointStats]:
        """This client's view of each server: in or out, calls, pool."""
        return [endpoint.stats() for endpoint in self._core.endpoints]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(f'{each.address}: {each.pool!r}' for each in self._core.endpoints)}>"

    def _submit(
        self, make: Callable[[], Coroutine[Any, Any, T]], cancel: CancelToken | None = None
    ) -> concurrent.futures.Future[T]:
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

    def _pending(
        self, audios: Iterable[Audio], concurrency: int, cancel: CancelToken | None, options: CallOptions
    ) -> tuple[Start, int | None]:
        """What starts the next transcription (None at the end), and how many there are. InvalidConfig at once."""
        require(
            isinstance(concurrency, int) and concurrency >= 1,
            f"concurrency is {concurrency}: give a whole number of 1 or more",
        )
        require(not isinstance(audios, str | bytes), "audios is a single one: give a list, or use transcribe")
        gate, items = asyncio.Semaphore(concurrency), enumerate(audios)

        def start() -> Begun | None:
            found = next(items, None)
            if found is None:
                return None
            return *found, self._submit(lambda: self._core.transcribe(found[1], gate, **options), cancel)

        return start, len(audios) if isinstance(audios, Sized) else None


class AsrClient(_Client):
    """Transcribes through one or several servers; threads may share one. Connects at once unless `prewarm` is off."""

    def _opened(self) -> None:
        if self._prewarm:
            try:
                _result(self._submit(self._core.start))
            except BaseException:
                self.close()
                raise

    def transcribe(
        self,
        audio: Audio,
        *,
        request_id: str | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[CallOptions],
    ) -> Transcript:
        """Transcribe a file, the bytes of one, or samples [N].

        Repeated after a lost connection under the same `request_id`: a transcription changes nothing at the server, so
        it may be done twice. Raises AsrError.
        """
        return _result(self._submit(lambda: self._core.transcribe(audio, request_id=request_id, **options), cancel))

    def transcribe_many(
        self,
        audios: Iterable[Audio],
        *,
        concurrency: int = 8,
        return_errors: bool = False,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[CallOptions],
    ) -> Iterator[Any]:
        """Transcribe all, at most `concurrency` at a time, and yield the Transcripts in order.

        An error is raised in its place, or yielded with `return_errors`. Ending the iteration cancels what still runs.
        """
        outcomes = self._outcomes(*self._pending(audios, concurrency, cancel, options), concurrency, True, progress)
        return (_or_error(each, return_errors) for each in outcomes)

    def as_completed(
        self,
        audios: Iterable[Audio],
        *,
        concurrency: int = 8,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[CallOptions],
    ) -> Iterator[Outcome]:
        """As transcribe_many, but each with its input as soon as it is done; errors are in the outcomes."""
        return self._outcomes(*self._pending(audios, concurrency, cancel, options), concurrency, False, progress)

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return when a server and its model answer; raises DeadlineExceeded after `timeout` s."""
        _result(self._submit(lambda: self._core.wait_until_ready(timeout)))

    def health(self, deep: Audio | None = None) -> list[ServerHealth]:
        """Ask every server now; with `deep` also for the transcript of that audio."""
        return _result(self._submit(lambda: self._core.health(deep)))

    def model_statistics(self) -> list[ModelStatistics]:
        """Triton's counters of all models of all servers. Raises AsrError."""
        return _result(self._submit(self._core.model_statistics))

    def close(self) -> None:
        """Close all channels; calls still running fail with ClientClosed. A second time does nothing."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _outcomes(
        self, start: Start, total: int | None, concurrency: int, ordered: bool, progress: Progress | None
    ) -> Iterator[Outcome]:
        running: dict[concurrent.futures.Future[Transcript], tuple[int, Audio]] = {}
        count, more = 0, True
        try:
            while True:
                while more and len(running) < _LOOKAHEAD * concurrency:
                    begun = start()
                    if begun is None:
                        more = False
                    else:
                        running[begun[2]] = begun[:2]
                if not running:
                    return
                first = concurrent.futures.FIRST_COMPLETED
                done = [next(iter(running))] if ordered else concurrent.futures.wait(running, return_when=first).done
                for future in done:
                    outcome = _outcome(*running[future], future)
                    del running[future]
                    count += 1
                    if progress is not None:
                        progress(count, total)
                    yield outcome
        finally:
            for future in running:
                future.cancel()


class AsyncAsrClient(_Client):
    """AsrClient for asyncio, with the same settings, errors and behaviour; it works in any loop.

    `async with AsyncAsrClient(...)` connects at once; otherwise the first call does, and waits for a server. Cancelling a
    task cancels its call at the server.
    """

    async def start(self) -> None:
        """Connect; raises ServerGone if no server can be reached."""
        await self._await(self._core.start)

    async def transcribe(
        self, audio: Audio, *, request_id: str | None = None, **options: Unpack[CallOptions]
    ) -> Transcript:
        """As AsrClient.transcribe."""
        return await self._await(lambda: self._core.transcribe(audio, request_id=request_id, **options))

    def transcribe_many(
        self,
        audios: Iterable[Audio],
        *,
        concurrency: int = 8,
        return_errors: bool = False,
        progress: Progress | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[Any]:
        """As AsrClient.transcribe_many. Ending the iteration (`aclose`) cancels what still runs."""
        outcomes = self._outcomes(*self._pending(audios, concurrency, None, options), concurrency, True, progress)
        return _or_errors(outcomes, return_errors)

    def as_completed(
        self,
        audios: Iterable[Audio],
        *,
        concurrency: int = 8,
        progress: Progress | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[Outcome]:
        """As AsrClient.as_completed."""
        return self._outcomes(*self._pending(audios, concurrency, None, options), concurrency, False, progress)

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """As AsrClient.wait_until_ready."""
        await self._await(lambda: self._core.wait_until_ready(timeout))

    async def health(self, deep: Audio | None = None) -> list[ServerHealth]:
        """As AsrClient.health."""
        return await self._await(lambda: self._core.health(deep))

    async def model_statistics(self) -> list[ModelStatistics]:
        """As AsrClient.model_statistics."""
        return await self._await(self._core.model_statistics)

    async def close(self) -> None:
        """Close all channels; calls still running fail with ClientClosed. A second time does nothing."""
        await asyncio.to_thread(self._finalizer)

    async def __aenter__(self) -> Self:
        if self._prewarm:
            try:
                await self.start()
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _await(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await asyncio.wrap_future(self._submit(make))

    async def _outcomes(
        self, start: Start, total: int | None, concurrency: int, ordered: bool, progress: Progress | None
    ) -> AsyncIterator[Outcome]:
        running: dict[asyncio.Future[Transcript], tuple[int, Audio]] = {}
        count, more = 0, True
        try:
            while True:
                while more and len(running) < _LOOKAHEAD * concurrency:
                    begun = start()
                    if begun is None:
                        more = False
                    else:
                        running[asyncio.wrap_future(begun[2])] = begun[:2]
                if not running:
                    return
                waited = [next(iter(running))] if ordered else list(running)
                done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    outcome = _outcome(*running[future], future)
                    del running[future]
                    count += 1
                    if progress is not None:
                        progress(count, total)
                    yield outcome
        finally:
            for future in running:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # asyncio would log that nobody asked for it


def _result(future: concurrent.futures.Future[T]) -> T:
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise Cancelled("the call was cancelled by the caller.") from None
    except BaseException:
        future.cancel()
        raise
    finally:
        # An error must not keep itself alive through this frame.
        del future


def _outcome(index: int, audio: Audio, future: Any) -> Outcome:
    if future.cancelled():
        return Outcome(index, audio, None, Cancelled("the call was cancelled by the caller."))
    error = future.exception()
    if error is None:
        return Outcome(index, audio, future.result(), None)
    if isinstance(error, AsrError):
        return Outcome(index, audio, None, error)
    raise error


def _or_error(outcome: Outcome, return_errors: bool) -> Transcript | AsrError:
    return outcome.error if return_errors and outcome.error is not None else outcome.result()


async def _or_errors(outcomes: AsyncIterator[Outcome], return_errors: bool) -> AsyncIterator[Any]:
    async with contextlib.aclosing(outcomes):  # type: ignore[type-var]  # it is a generator
        async for outcome in outcomes:
            yield _or_error(outcome, return_errors)


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
