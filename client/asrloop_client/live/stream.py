"""A stream of live audio as a context manager and an iterator, for threads and for asyncio.

The call has ended whichever way the block is left: the end, a break, an error, a cancelled task.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterable, Callable, Coroutine
from functools import partial
from typing import Any, Self, Unpack

from asrloop_client.background import result_of
from asrloop_client.errors import AsrError, Cancelled, ClientClosed
from asrloop_client.live.chunks import AnySource, Chunk, Source
from asrloop_client.live.events import StreamEvent
from asrloop_client.live.session import Session, StreamOptions
from asrloop_client.servers import Servers

Submit = Callable[[Callable[[], Coroutine[Any, Any, Any]]], concurrent.futures.Future[Any]]


def _look(future: asyncio.Future[Any]) -> None:
    """Take note of a future's error: asyncio logs one that nobody looked at, also where nobody waits any more."""
    if not future.cancelled():
        future.exception()


class _Face:
    """The session in the client's loop, and the thread that reads the source."""

    def __init__(
        self, submit: Submit, servers: Servers, source: AnySource | None = None, **options: Unpack[StreamOptions]
    ) -> None:
        self._submit, self._session = submit, Session(servers, **options)
        self._source: Any = source

    def _feed(self, source: Source) -> None:
        """Run in a daemon thread: the interpreter need not wait for a source that never ends."""
        try:
            for chunk in source:
                result_of(self._submit(partial(self._session.send, chunk)))
            result_of(self._submit(self._session.finish))
        except BaseException as error:  # told to the reader
            with contextlib.suppress(AsrError):
                result_of(self._submit(partial(self._session.fail, error)))

    def _start_thread(self, source: Source) -> None:
        threading.Thread(target=self._feed, args=(source,), name="asrloop-client-source", daemon=True).start()


class Stream(_Face):
    """Live audio for threads: see AsrClient.stream."""

    def send(self, chunk: Chunk) -> None:
        """Send a chunk; waits while many are unsent. Raises InvalidAudio, and the error that ended the stream."""
        result_of(self._submit(partial(self._session.send, chunk)))

    def finish(self) -> None:
        """End the audio: the open segment becomes final, then the iteration ends."""
        result_of(self._submit(self._session.finish))

    def close(self) -> None:
        """End the stream at once, without its last events."""
        with contextlib.suppress(ClientClosed):
            result_of(self._submit(self._session.fail))

    def __enter__(self) -> Self:
        result_of(self._submit(self._session.begin))
        if self._source is not None:
            self._start_thread(self._source)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamEvent:
        event: StreamEvent | None = result_of(self._submit(self._session.next))
        if event is None:
            raise StopIteration
        return event


class AsyncStream(_Face):
    """Stream for asyncio, in any loop."""

    _feeding: asyncio.Task[None] | None = None
    _asked: concurrent.futures.Future[StreamEvent | None] | None = None

    async def send(self, chunk: Chunk) -> None:
        await asyncio.wrap_future(self._submit(partial(self._session.send, chunk)))

    async def finish(self) -> None:
        await asyncio.wrap_future(self._submit(self._session.finish))

    async def close(self) -> None:
        if self._feeding is not None and self._feeding is not asyncio.current_task():
            self._feeding.cancel()
        with contextlib.suppress(ClientClosed):
            await asyncio.wrap_future(self._submit(self._session.fail))

    async def __aenter__(self) -> Self:
        await asyncio.wrap_future(self._submit(self._session.begin))
        if isinstance(self._source, AsyncIterable):
            self._feeding = asyncio.create_task(self._feed_from(self._source))
        elif self._source is not None:
            self._start_thread(self._source)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        # Shielded and asked for once: a reader that stops waiting, for instance by wait_for, gets the event the next time.
        self._asked = self._asked or self._submit(self._session.next)
        asked = asyncio.wrap_future(self._asked)
        asked.add_done_callback(_look)
        event = await asyncio.shield(asked)
        self._asked = None
        if event is None:
            raise StopAsyncIteration
        return event

    async def _feed_from(self, source: AsyncIterable[Chunk]) -> None:
        try:
            async for chunk in source:
                await self.send(chunk)
            await self.finish()
        except BaseException as error:  # told to the reader
            cancelled = isinstance(error, asyncio.CancelledError)
            told = Cancelled("the source of the stream was cancelled.") if cancelled else error
            with contextlib.suppress(AsrError):
                await asyncio.wrap_future(self._submit(partial(self._session.fail, told)))
            if not isinstance(error, Exception):
                raise
