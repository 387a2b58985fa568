"""A session of live audio over one ModelStreamInfer call at a time, which survives the loss of a server.

Runs in the client's loop; `stream` has its two faces.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
import uuid
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from asrloop_client.audio import as_rate
from asrloop_client.control.channel import LOG
from asrloop_client.endpoints import Endpoint
from asrloop_client.errors import (
    AsrError,
    Cancelled,
    DeadlineExceeded,
    InvalidConfig,
    ModelNotReady,
    Overloaded,
    ServerFailure,
    ServerGone,
)
from asrloop_client.live.call import StreamCall
from asrloop_client.live.chunks import as_chunk, chunk_request
from asrloop_client.live.events import StreamEvent, read_event
from asrloop_client.live.kept import KeptAudio
from asrloop_client.servers import Search, Servers
from asrloop_client.settings import Parameter

_MOST_WAITING = 256
"""Unsent chunks; `send` waits while there are more."""
_PATIENCE = 2.0
"""Seconds without a response of the server, which answers every chunk, before its probe is asked."""
_CLOSE_SECONDS = 5.0
_NOTHING = np.empty(0, np.int16)


class StreamOptions(TypedDict, total=False):
    """Options of a stream of live audio."""

    sample_rate: float
    """Rate of the chunks in Hz (default 16000)."""
    timeout: float | None
    """Seconds to find a server, and to wait for its next event once all audio is sent; the stream itself has no limit."""
    resume: bool
    """When the server is lost, begin a new stream with the audio of the open segment, of which at most 30 s are kept."""
    parameters: Mapping[str, Parameter] | None
    headers: Mapping[str, str] | None
    fail_fast: bool | None


class Session:
    """One stream of live audio. Times are seconds from its start."""

    def __init__(
        self,
        servers: Servers,
        *,
        sample_rate: float = 16000,
        timeout: float | None = None,
        resume: bool = False,
        parameters: Mapping[str, Parameter] | None = None,
        headers: Mapping[str, str] | None = None,
        fail_fast: bool | None = None,
    ) -> None:
        self._servers, self._rate, self._timeout = servers, as_rate(sample_rate), servers.settings.seconds(timeout)
        self._resume, self._parameters, self._headers = resume, parameters or {}, servers.settings.all_headers(headers)
        fast = servers.settings.fail_fast if fail_fast is None else fail_fast
        self._search = Search(model=servers.settings.stream_model, fail_fast=fast)
        self._waiting: deque[npt.NDArray[Any]] = deque()
        """Chunks that are not sent yet."""
        self._kept = KeptAudio(self._rate)
        self._open_from = 0.0
        """Start of the open segment."""
        self._first = self._open = 0
        """Numbers of this attempt's first segment, and of the open one."""
        self._offset = 0.0
        """Start of this attempt's audio."""
        self._events: deque[StreamEvent] = deque()
        """Events not read yet: finals, and after them at most one partial."""
        self._finished = self._heard = self._over = False
        """True when all audio was given, when an event came, when the stream has ended."""
        self._answered = self._all_sent = False
        """True when this attempt's server responded, and when END was sent to it."""
        self._owed_since = math.inf
        """Since when this attempt's server owes a response."""
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Look for a server and send the chunks."""
        self._task = self._task or asyncio.create_task(self._run())

    async def send(self, given: Any) -> None:
        """Take a chunk; waits while many are unsent. Raises InvalidAudio, DeadlineExceeded, and the error that ended the stream."""
        chunk = as_chunk(given)
        try:
            async with asyncio.timeout(self._timeout):
                while len(self._waiting) >= _MOST_WAITING and not self._over:
                    await self._changed.wait()
        except TimeoutError:
            raise DeadlineExceeded(
                f"{_MOST_WAITING} chunks wait to be sent, and none was in {self._timeout:.3g} s. Look at the server's load."
            ) from None
        if self._over or self._finished:
            raise self._error or InvalidConfig("the stream has ended: open a new one for more audio")
        self._waiting.append(chunk)
        self._tell()

    async def finish(self) -> None:
        """End the audio. A second time does nothing."""
        if not self._finished:
            self._finished = True
            self._tell()

    async def next(self) -> StreamEvent | None:
        """Return the next event, or None after the last. Raises the error that ended the stream."""
        if self._task is None:
            raise InvalidConfig("the stream has not begun: use it in a `with` block")
        while not self._events and not self._over:
            await self._changed.wait()
        if self._events:
            return self._events.popleft()
        if self._error is not None:
            raise self._error
        return None

    async def fail(self, error: Exception | None = None) -> None:
        """End at once, for the reader with `error`. Does nothing when the stream has ended."""
        if self._task is not None and not self._over:
            self._error = self._error or error
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        try:
            await self._servers.run(self._until_ended)
        except asyncio.CancelledError:
            self._error = self._error or Cancelled("the stream was closed by the caller.")
        except Exception as error:  # told to the reader
            self._error = self._error or error
        finally:
            self._over = True
            self._tell()

    async def _until_ended(self) -> None:
        by = time.monotonic() + self._timeout
        while True:
            try:
                async with asyncio.timeout(max(0.0, by - time.monotonic())):
                    endpoint = await self._servers.next_server(self._search)
            except TimeoutError:
                said = f"; the last error: {self._search.last}" if self._search.last else ""
                raise DeadlineExceeded(f"no server took the stream in {self._timeout:.3g} s{said}") from None
            try:
                return await self._attempt(endpoint)
            except AsrError as error:
                nothing_lost = not self._heard and not self._kept.start
                if not (self._resume or nothing_lost):
                    raise
                if not await self._servers.may_go_on(error, endpoint, self._search):
                    raise
                if self._answered:
                    by, self._search.pauses = time.monotonic() + self._timeout, 0
                self._search.last = str(error)
                LOG.info("a live stream is opened again: %s", error)

    async def _attempt(self, endpoint: Endpoint) -> None:
        began, broken = time.monotonic(), False
        self._answered, self._all_sent, self._owed_since = False, False, math.inf
        member: Any = None
        call: StreamCall | None = None
        writer: asyncio.Task[None] | None = None
        endpoint.streams += 1
        try:
            # A channel that others keep is not worth waiting for: streams last.
            member = await endpoint.acquire(fail_fast=True)
            call, sequence = StreamCall(member.connection, self._headers), uuid.uuid4().hex
            writer = asyncio.create_task(self._write(call, sequence))
            await self._read(call, sequence, endpoint, writer)
            await call.drain(_CLOSE_SECONDS)
        except AsrError as error:
            if isinstance(error, ServerFailure) and error.code is None:
                # Triton's own: a wrong model, or its process has died. In a stream they have no status to tell.
                if await endpoint.is_loaded(self._search.model) is not True:
                    raise ModelNotReady(str(error)) from None
                if self._answered or self._heard:
                    raise ServerGone(str(error)) from None
            broken = isinstance(error, ServerGone)
            if not isinstance(error, Overloaded):  # that is about streams; files may still be welcome
                endpoint.failed(error, began)
            raise
        finally:
            endpoint.streams -= 1
            if writer is not None:
                writer.cancel()
            if call is not None:
                call.cancel()
            if member is not None:
                endpoint.pool.release(member, broken, reuse=self._servers.settings.pooling)
            # An error must not keep its call, and by it a socket, alive through this frame.
            del call, member, writer

    async def _write(self, call: StreamCall, sequence: str) -> None:
        """Send START, the kept audio of the open segment if this is not the first server, chunk after chunk, END."""
        request = partial(chunk_request, self._servers.settings.stream_model, sequence)
        begin, again = self._kept.since(self._open_from)
        self._first, self._offset = self._open, begin
        going = await call.write(request(_NOTHING, start={**self._parameters, "sample_rate": self._rate}))
        while again and going:
            going = await call.write(request(again.pop(0)))
        while going:
            while not self._waiting and not self._finished:
                await self._changed.wait()
            if not self._waiting:
                self._owed_since, self._all_sent = time.monotonic(), True
                await call.write(request(_NOTHING, end=True))
                return await call.finish()
            self._kept.append(chunk := self._waiting.popleft())
            self._tell()
            self._owed_since = min(self._owed_since, time.monotonic())
            going = await call.write(request(chunk))
        return None

    async def _read(self, call: StreamCall, sequence: str, endpoint: Endpoint, writer: asyncio.Task[None]) -> None:
        """Take events until the last response to START."""
        patience = min(_PATIENCE, self._timeout)
        reading = asyncio.ensure_future(call.read())
        while True:
            tasks = {reading} if writer.done() else {reading, writer}
            done, _ = await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if writer.done() and not writer.cancelled():
                writer.result()
            if reading in done:
                response = reading.result()
                if response is None:
                    raise ServerGone(f"{endpoint.address}: it ended the stream before the end of the audio.")
                self._answered, self._owed_since = True, time.monotonic() if self._all_sent else math.inf
                if response.id == sequence and self._take(*read_event(response, endpoint.address)):
                    return
                reading = asyncio.ensure_future(call.read())
            elif not done and time.monotonic() - self._owed_since > self._timeout:
                if not self._all_sent:
                    raise ServerGone(f"{endpoint.address}: it answered no chunk for {self._timeout:.3g} s.")
                raise DeadlineExceeded(
                    f"{endpoint.address}: no event within {self._timeout:.3g} s after the audio's end. Raise `timeout`."
                )
            elif not done and not await endpoint.answers(patience) and not reading.done():
                raise ServerGone(f"{endpoint.address}: it does not answer its probe. It hangs or was cut off.")

    def _take(self, event: StreamEvent | None, last: bool) -> bool:
        """Queue an event of this attempt for the reader, and return `last`."""
        if event is not None:
            start, heard = event.start + self._offset, event.heard + self._offset
            event = dataclasses.replace(event, segment=event.segment + self._first, start=start, heard=heard)
            self._heard = True
            self._open = event.segment + event.final
            self._open_from = heard if event.final else min(start, self._open_from)
            # A reader that is slow gets only the latest partial.
            if self._events and not self._events[-1].final:
                self._events.pop()
            self._events.append(event)
            self._tell()
        return last
