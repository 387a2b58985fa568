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
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from asrloop_client.asked import asked
from asrloop_client.audio import as_rate
from asrloop_client.control.channel import LOG
from asrloop_client.deaths import Deaths
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
from asrloop_client.live.chunks import as_chunk, chunk_request, pieces_of
from asrloop_client.live.events import StreamEvent, read_event
from asrloop_client.live.kept import KeptAudio
from asrloop_client.live.raw import check_raw
from asrloop_client.servers import Search, Servers
from asrloop_client.settings import Parameter, SpeechOptions

_PIECE_SECONDS = 1.0
"""Longest audio of a request, so that the server's answers tell its progress."""
_AHEAD_SECONDS = 8.0
"""Most audio that the server has not answered. It answers what it has nearly recognised."""
_WAITING_SECONDS, _LEAST_SECONDS = 30.0, 0.01
"""`send` waits while more audio than this is unsent, where a chunk counts for no less than the second number."""
_WAITING_BYTES = 2 << 20
"""It waits while this is unsent as well: seconds of a high rate take more."""
_ANSWER_SECONDS = 60.0
"""Least time that a server, which answers its probe, may take for its next response while it has audio to recognise."""
_PATIENCE = 2.0
"""Seconds without a response of the server, which answers every chunk, before its probe is asked."""
_CLOSE_SECONDS = 5.0
_INNOCENT_SECONDS = 60.0
"""A server that dies later does so by none of the audio that the one before had."""
_NOTHING = np.empty(0, np.int16)


class _Asked(SpeechOptions, total=False):
    """What a stream asks of the server."""

    model: str | None
    """Name of a recognizer that stands beside the server's default; None or "" for the default."""
    turn_detection: str | None
    """What ends a segment: "silence", "semantic" (a model listens whether the speaker is done) or "none" (only END_SEGMENT and the
    end of the audio). None, here and below, leaves it to the server: "silence"."""
    silence_ms: int | None
    """Length of the pause that ends a segment, 100..10000 ms. Default: 220 ms, or 380 ms where the text is unsure."""
    turn_threshold: float | None
    """Least probability, 0..1, that the speaker is done, for "semantic" (default 0.5)."""
    longest_pause_ms: int | None
    """Length of the pause that ends any segment, 500..30000 ms, for "semantic" (default 4000)."""
    speech_threshold: float | None
    """Least probability of speech, 0..1, of a piece of 32 ms that counts as speech (default 0.6)."""
    padding_ms: int | None
    """Audio before the first speech that belongs to a segment, 0..2000 ms (default 320)."""


class StreamOptions(_Asked, total=False):
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
        **wishes: Unpack[_Asked],
    ) -> None:
        self._servers, self._rate, self._timeout = servers, as_rate(sample_rate), servers.settings.seconds(timeout)
        self._answer_seconds = max(self._timeout, _ANSWER_SECONDS)
        self._resume = resume
        for name in ("diarize", "speakers"):
            if name in {**wishes, **(parameters or {})}:
                raise InvalidConfig(f"{name}: live audio does not tell speakers apart; give it to `transcribe`")
        self._parameters = asked(parameters, **wishes)
        self._headers = servers.settings.all_headers(headers)
        fast = servers.settings.fail_fast if fail_fast is None else fail_fast
        self._search = Search(model=servers.settings.stream_model, fail_fast=fast)
        self._waiting: deque[npt.NDArray[Any]] = deque()
        """Pieces that are not sent yet."""
        self._waiting_seconds, self._waiting_bytes = 0.0, 0
        self._sending = asyncio.Lock()
        """Keeps the pieces of a chunk together."""
        self._kept = KeptAudio(self._rate)
        self._open_from = 0.0
        """Where another server begins."""
        self._needed_from, self._is_open = 0.0, False
        """End of the last segment and False, or start of the open one and True."""
        self._first = self._open = 0
        """Numbers of this attempt's first segment, and of the open one."""
        self._offset = 0.0
        """Start of this attempt's audio."""
        self._events: deque[StreamEvent] = deque()
        """Events not read yet: finals, and after them at most one partial."""
        self._begun = False
        """True when audio was given."""
        self._finished = self._heard = self._over = False
        """True when all audio was given, when an event came, when the stream has ended."""
        self._answered = self._all_sent = False
        """True when this attempt's server responded, and when END was sent to it."""
        self._written = self._answered_to = 0
        """Samples that were sent to this attempt's server, and those of them that it answered."""
        self._owed_since = math.inf
        """Since when this attempt's server owes a response."""
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Look for a server and send the chunks."""
        self._task = self._task or asyncio.create_task(self._run())

    async def send(self, given: Any) -> None:
        """Take a chunk of any length, piece by piece; waits while the server has much to do, as long as it goes on.

        Raises InvalidAudio, DeadlineExceeded, and the error that ended the stream.
        """
        if isinstance(given, bytes | bytearray | memoryview) and not self._begun:
            check_raw(bytes(given[:64]), self._rate)
        chunk = as_chunk(given)
        self._begun = self._begun or chunk.size > 0
        async with self._sending:
            for piece in pieces_of(chunk, round(_PIECE_SECONDS * self._rate)):
                await self._wait_for_room()
                if self._over or self._finished:
                    raise self._error or InvalidConfig("the stream has ended: open a new one for more audio")
                # A copy: a view would keep the whole chunk.
                self._waiting.append(piece if piece is chunk else piece.copy())
                self._waiting_seconds += self._seconds_of(piece)
                self._waiting_bytes += piece.nbytes
                self._tell()

    async def _wait_for_room(self) -> None:
        """Wait while too much audio is unsent. Raises DeadlineExceeded."""
        while (self._waiting_seconds > _WAITING_SECONDS or self._waiting_bytes > _WAITING_BYTES) and not self._over:
            before, done = self._waiting_seconds, (self._written, self._answered_to)
            seconds = self._answer_seconds if self._answered else self._timeout
            try:
                async with asyncio.timeout(seconds):
                    while self._waiting_seconds == before and not self._over:
                        await self._changed.wait()
            except TimeoutError:
                if (self._written, self._answered_to) != done:  # audio that a lost server had goes first
                    continue
                raise DeadlineExceeded(
                    f"{before:.0f} s of audio wait to be sent, and none was in {seconds:.3g} s. Look at the server's load."
                ) from None

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

    async def fail(self, error: BaseException | None = None) -> None:
        """End at once, for the reader with `error`. Does nothing when the stream has ended."""
        if self._task is not None and not self._over:
            self._error = self._error or error
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)

    def _seconds_of(self, piece: npt.NDArray[Any]) -> float:
        return max(piece.size / self._rate, _LEAST_SECONDS)

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
                self._check_kept(error)
                if time.monotonic() - self._search.asked > _INNOCENT_SECONDS:
                    self._search.deaths = Deaths()
                if not await self._servers.may_go_on(error, endpoint, self._search):
                    raise
                if self._answered:
                    by, self._search.pauses = time.monotonic() + self._timeout, 0
                self._search.last = str(error)
                LOG.info("a live stream is opened again: %s", error)

    def _check_kept(self, error: AsrError) -> None:
        """Raise `error` where another server would not get all audio that this one left without its final text."""
        # A server that answers at once may end a stream that is too far ahead of it: its answers tell no progress.
        is_behind = isinstance(error, Overloaded) and self._answered
        lost = self._kept.start / self._rate - self._needed_from
        if lost > 0 and (self._is_open or is_behind):
            text = f"{error} The stream cannot be resumed: {lost:.0f} s of audio without final text are no longer kept."
            failure = type(error)(text)
            failure.code, failure.detail = error.code, error.detail
            raise failure from None
        if lost > 0:
            LOG.warning("%.1f s of a live stream, in which no text was told, are not sent again", lost)

    async def _attempt(self, endpoint: Endpoint) -> None:
        began, broken = time.monotonic(), False
        self._answered, self._all_sent, self._owed_since = False, False, math.inf
        self._written = self._answered_to = 0
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
            if isinstance(error, ServerGone) and error.code is None and call is not None:
                error.had_request = await call.is_lost()
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
        while going:
            while not (again or self._waiting or self._finished) or self._is_ahead():
                await self._changed.wait()
            if again:
                piece = again.pop(0)
            elif self._waiting:
                piece = self._waiting.popleft()
                self._waiting_seconds = self._waiting_seconds - self._seconds_of(piece) if self._waiting else 0.0
                self._waiting_bytes -= piece.nbytes
                self._kept.append(piece)
                self._tell()
            else:
                self._owed_since, self._all_sent = time.monotonic(), True
                await call.write(request(_NOTHING, end=True))
                return await call.finish()
            self._written += piece.size
            self._owed_since = min(self._owed_since, time.monotonic())
            going = await call.write(request(piece, name=str(self._written)))
        return None

    def _is_ahead(self) -> bool:
        """True while the server has enough to do."""
        return self._written - self._answered_to >= _AHEAD_SECONDS * self._rate

    async def _read(self, call: StreamCall, sequence: str, endpoint: Endpoint, writer: asyncio.Task[None]) -> None:
        """Take events until the last response to START."""
        patience = min(_PATIENCE, self._timeout)
        reading = _looked_at(call.read())
        while True:
            tasks = {reading} if writer.done() else {reading, writer}
            done, _ = await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if writer.done() and not writer.cancelled():
                writer.result()
            if reading in done:
                response = reading.result()
                if response is None:
                    raise ServerGone(f"{endpoint.address}: it ended the stream before the end of the audio.")
                self._answered = True
                if response.id == sequence:
                    if self._take(*read_event(response, endpoint.address)):
                        return
                elif response.id:
                    self._answered_to = max(self._answered_to, int(response.id))
                    self._kept.forget(self._offset + self._answered_to / self._rate)
                    self._tell()
                owes = self._all_sent or self._answered_to < self._written
                self._owed_since = time.monotonic() if owes else math.inf
                reading = _looked_at(call.read())
            elif not done and not self._all_sent and time.monotonic() - self._owed_since > self._answer_seconds:
                raise ServerGone(f"{endpoint.address}: it answered no chunk for {self._answer_seconds:.3g} s.")
            elif not done and self._all_sent and time.monotonic() - self._owed_since > self._timeout:
                raise DeadlineExceeded(
                    f"{endpoint.address}: no event within {self._timeout:.3g} s after the audio's end. Raise `timeout`."
                )
            elif not done and not await endpoint.answers(patience) and not reading.done():
                raise ServerGone(f"{endpoint.address}: it does not answer its probe. It hangs or was cut off.")

    def _take(self, event: StreamEvent | None, last: bool) -> bool:
        """Queue an event of this attempt for the reader, and return `last`."""
        if event is not None:
            at = self._offset
            start, heard = event.start + at, event.heard + at
            words = tuple(dataclasses.replace(each, start=each.start + at, end=each.end + at) for each in event.words)
            event = dataclasses.replace(
                event, segment=event.segment + self._first, start=start, heard=heard, words=words
            )
            self._heard = True
            self._open = event.segment + event.final
            self._open_from = heard if event.final else min(start, self._open_from)
            self._needed_from, self._is_open = heard if event.final else start, not event.final
            # A reader that is slow gets only the latest partial.
            if self._events and not self._events[-1].final:
                self._events.pop()
            self._events.append(event)
            self._tell()
        return last


def _looked_at(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start `work` as a task whose error asyncio does not log when the stream ends before it."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
