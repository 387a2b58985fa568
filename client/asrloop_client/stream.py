"""A stream of live audio as a context manager and an iterator, for threads and for asyncio.

Whatever way the block is left (the end, a break, an error, a cancelled task), the call has ended then.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Self

import numpy.typing as npt

from asrloop_client.errors import AsrError, ClientClosed, result_of
from asrloop_client.live import Live
from asrloop_client.transcript import StreamEvent

Chunk = npt.NDArray[Any] | bytes
"""Mono: float in -1..1 or int16 [N], or bytes of 16-bit PCM."""
Source = Iterable[Chunk]
AnySource = Source | AsyncIterable[Chunk]
Submit = Callable[[Callable[[], Coroutine[Any, Any, Any]]], concurrent.futures.Future[Any]]


class _Face:
    """What both faces share: who reads the source."""

    def __init__(self, submit: Submit, live: Live, source: AnySource | None) -> None:
        self._submit, self._live = submit, live
        self._source: Any = source

    def _feed(self, source: Source) -> None:
        """In a thread of its own, which a source that waits for ever keeps; the interpreter does not wait for it."""
        try:
            for chunk in source:
                result_of(self._submit(partial(self._live.send, chunk)))
            result_of(self._submit(self._live.finish))
        except Exception as error:  # told to the reader
            with contextlib.suppress(AsrError):
                result_of(self._submit(partial(self._live.fail, error)))

    def _start_thread(self, source: Source) -> None:
        threading.Thread(target=self._feed, args=(source,), name="asrloop-client-source", daemon=True).start()


class Stream(_Face):
    """Live audio for threads: see AsrClient.stream."""

    def send(self, chunk: Chunk) -> None:
        """Give a chunk; waits while many wait to be sent. Raises InvalidAudio, and what ended the stream."""
        result_of(self._submit(partial(self._live.send, chunk)))

    def finish(self) -> None:
        """Say that there is no more audio: what is left becomes final, then the iteration ends."""
        result_of(self._submit(self._live.finish))

    def close(self) -> None:
        """End the stream at once."""
        with contextlib.suppress(ClientClosed):
            result_of(self._submit(self._live.fail))

    def __enter__(self) -> Self:
        result_of(self._submit(self._live.begin))
        if self._source is not None:
            self._start_thread(self._source)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamEvent:
        event: StreamEvent | None = result_of(self._submit(self._live.next))
        if event is None:
            raise StopIteration
        return event


class AsyncStream(_Face):
    """Stream for asyncio, in any loop."""

    _feeding: asyncio.Task[None] | None = None
    _asked: concurrent.futures.Future[StreamEvent | None] | None = None

    async def send(self, chunk: Chunk) -> None:
        """As Stream.send."""
        await asyncio.wrap_future(self._submit(partial(self._live.send, chunk)))

    async def finish(self) -> None:
        """As Stream.finish."""
        await asyncio.wrap_future(self._submit(self._live.finish))

    async def close(self) -> None:
        """As Stream.close."""
        if self._feeding is not None and self._feeding is not asyncio.current_task():
            self._feeding.cancel()
        with contextlib.suppress(ClientClosed):
            await asyncio.wrap_future(self._submit(self._live.fail))

    async def __aenter__(self) -> Self:
        await asyncio.wrap_future(self._submit(self._live.begin))
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
        # Shielded and asked for once: who stops waiting, for instance by wait_for, gets the event the next time.
        self._asked = self._asked or self._submit(self._live.next)
        event = await asyncio.shield(asyncio.wrap_future(self._asked))
        self._asked = None
        if event is None:
            raise StopAsyncIteration
        return event

    async def _feed_from(self, source: AsyncIterable[Chunk]) -> None:
        try:
            async for chunk in source:
                await self.send(chunk)
            await self.finish()
        except Exception as error:  # told to the reader
            with contextlib.suppress(AsrError):
                await asyncio.wrap_future(self._submit(partial(self._live.fail, error)))
