"""AsrClient for threads and AsyncAsrClient for asyncio: two thin faces of the same servers, whose loop has a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from asrloop_client.audio import Audio
from asrloop_client.background import LoopThread, keep_large_blocks, refuse_after_fork, result_of
from asrloop_client.background.threads import in_thread
from asrloop_client.call import transcribe
from asrloop_client.control.cancel import CancelToken
from asrloop_client.control.health import health
from asrloop_client.control.ready import start, wait_until_ready
from asrloop_client.control.recognizers import MOMENT, NO_LANGUAGE, Description, description_in, not_loaded, recognizers
from asrloop_client.control.state import ServerState, state_of
from asrloop_client.errors import Cancelled, InvalidOption
from asrloop_client.servers import Servers
from asrloop_client.settings import CallOptions, Settings
from asrloop_client.transcript import Transcript

if TYPE_CHECKING:
    from asrloop_client.live import AnySource, AsyncStream, Source, Stream, StreamOptions
    from asrloop_client.many import Bulk, BulkOptions, Outcome

T = TypeVar("T")


class _Client(Settings):
    """The loop in its thread, and the work that both faces submit to it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_after_fork()
        keep_large_blocks()
        # With a copy of the settings: a reference to the client would keep it from being closed when it is dropped.
        self._servers = Servers(Settings(**vars(self)))
        self._loop = LoopThread(self, self._servers.close)

    def stats(self) -> list[ServerState]:
        """Return this client's view of each server: in or out, calls, pool."""
        return [state_of(endpoint) for endpoint in self._servers.endpoints]

    def __repr__(self) -> str:
        closed = ", closed" if self._servers.closed else ""
        return f"<{type(self).__name__} {', '.join(map(str, self.stats()))}{closed}>"

    def _submit(self, make: Callable[[], Coroutine[Any, Any, T]], cancel: CancelToken | None = None) -> Future[T]:
        """Run the coroutine that `make` returns in the client's loop, until the client is closed."""
        if cancel is not None and cancel.cancelled:
            raise Cancelled("the call was cancelled by the caller before it began.")
        future = self._loop.submit(lambda: self._servers.run(make))
        if cancel is not None:
            cancel.add(future)
        return future

    def _bulk(self, audios: Iterable[Audio], return_errors: bool | None = None, **options: Unpack[BulkOptions]) -> Bulk:
        """Return transcriptions in order, or, without `return_errors`, their Outcomes as they come."""
        from asrloop_client.many import Bulk

        return Bulk(self._submit, self._servers, audios, return_errors, **options)


class AsrClient(_Client):
    """Transcribes through one or several servers; threads may share one. Its keywords are the fields of Settings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prewarm:
            try:
                result_of(self._submit(lambda: start(self._servers)))
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
        return result_of(self._submit(lambda: transcribe(self._servers, audio, **options), cancel))

    def transcribe_many(
        self, audios: Iterable[Audio], *, return_errors: bool = False, **options: Unpack[BulkOptions]
    ) -> Iterator[Any]:
        """Transcribe all, some at a time, and yield the Transcripts in order.

        An error is raised in its place, or yielded with `return_errors`. Ending the iteration cancels what still runs.
        """
        return iter(self._bulk(audios, return_errors, **options))

    def as_completed(self, audios: Iterable[Audio], **options: Unpack[BulkOptions]) -> Iterator[Outcome]:
        """Yield each Outcome, with its input, as soon as it is done; errors are in the outcomes."""
        return iter(self._bulk(audios, **options))

    def stream(self, source: Source | None = None, **options: Unpack[StreamOptions]) -> Stream:
        """Open live audio: a context manager and an iterator of StreamEvents. Raises AsrError while it runs.

        `source` gives the chunks, mono: samples (float in -1..1 or int16) or bytes of 16-bit PCM, of any length, and is read by a
        thread; without one, call `send` and `finish`. Leaving the block early cancels the stream at the server.
        """
        from asrloop_client.live import Stream

        return Stream(self._submit, self._servers, source, **options)

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return when a server and a model of it answer; raises DeadlineExceeded after `timeout` s."""
        result_of(self._submit(lambda: wait_until_ready(self._servers, timeout)))

    def health(self, deep: Audio | None = None) -> list[ServerState]:
        """Ask every server now; with `deep` also for the transcript of that audio."""
        return result_of(self._submit(lambda: health(self._servers, deep)))

    def recognizers(self) -> list[str]:
        """Ask which recognizers `model` may name; "" is the default. Raises AsrError where no server tells."""
        return result_of(self._submit(lambda: recognizers(self._servers)))

    def described(self, model: str = "", timeout: float = 5.0) -> Description:
        """Ask for the family and the languages of a recognizer; "" is the default. Raises AsrError."""
        try:
            self.transcribe(MOMENT, model=model, language=NO_LANGUAGE, timeout=timeout)
        except InvalidOption as error:
            return description_in(error.detail)
        return Description("", ())

    def not_loaded(self) -> dict[str, list[str]]:
        """Ask for all recognizers in the servers' repositories, each with those of its Triton models that are not loaded.

        Raises AsrError where no server tells.
        """
        return result_of(self._submit(lambda: not_loaded(self._servers)))

    def close(self) -> None:
        """Close all channels; calls still running fail with ClientClosed. A second time does nothing."""
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncAsrClient(_Client):
    """AsrClient for asyncio: the same methods, settings and errors, in any loop.

    `async with AsyncAsrClient(...)` connects at once; otherwise the first call does, and waits for a server. Cancelling a
    task cancels its call at the server; ending an iteration (`aclose`) cancels what still runs.
    """

    async def start(self) -> None:
        """Connect; raises ServerGone if no server can be reached, ModelNotReady if none loads a model in time."""
        await asyncio.wrap_future(self._submit(lambda: start(self._servers)))

    async def transcribe(self, audio: Audio, **options: Unpack[CallOptions]) -> Transcript:
        return await asyncio.wrap_future(self._submit(lambda: transcribe(self._servers, audio, **options)))

    def transcribe_many(
        self, audios: Iterable[Audio], *, return_errors: bool = False, **options: Unpack[BulkOptions]
    ) -> AsyncIterator[Any]:
        return aiter(self._bulk(audios, return_errors, **options))

    def as_completed(self, audios: Iterable[Audio], **options: Unpack[BulkOptions]) -> AsyncIterator[Outcome]:
        return aiter(self._bulk(audios, **options))

    def stream(self, source: AnySource | None = None, **options: Unpack[StreamOptions]) -> AsyncStream:
        """Open live audio; `source` may be an async iterable, too."""
        from asrloop_client.live import AsyncStream

        return AsyncStream(self._submit, self._servers, source, **options)

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        await asyncio.wrap_future(self._submit(lambda: wait_until_ready(self._servers, timeout)))

    async def health(self, deep: Audio | None = None) -> list[ServerState]:
        return await asyncio.wrap_future(self._submit(lambda: health(self._servers, deep)))

    async def recognizers(self) -> list[str]:
        return await asyncio.wrap_future(self._submit(lambda: recognizers(self._servers)))

    async def not_loaded(self) -> dict[str, list[str]]:
        return await asyncio.wrap_future(self._submit(lambda: not_loaded(self._servers)))

    async def close(self) -> None:
        await in_thread(self._loop.close, at_once=True)

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
