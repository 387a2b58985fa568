"""Decodes files on a few threads (libsndfile and soxr release the interpreter's lock), a bounded number at a time.

Each request is answered once. A long file is answered with its beginning; the rest follows through a relay as it is read.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple

import numpy as np

from asrloop.audio.files import blocks, head_and_rest
from asrloop.audio.length import Length
from asrloop.audio.pcm import SAMPLE_RATE, Samples
from asrloop.audio.relay import STALL_SECONDS, Outlet
from asrloop.config import AudioSettings
from asrloop.cores import usable_cores
from asrloop.errors import (
    DeadlineExceeded,
    DecodeFailed,
    EngineClosed,
    InvalidAudio,
    Overloaded,
    RequestError,
    one_channel,
)

SMALL_BYTES = 1 << 20
"""Files of up to so many bytes do not wait for larger ones: they have threads of their own."""

ALIVE_SECONDS = 10.0
"""The reader of a rest is told that its sender lives when a block takes longer, be it that others have their turns."""

BUDGET_SECONDS = 600
"""Length of audio for which ``audio.decode_seconds`` is the limit."""


class FileHead(NamedTuple):
    """The beginning of a decoded file, and where to read the rest."""

    samples: Samples
    """The beginning of a long file, all of a short one, f32 [N], 16 kHz."""

    rest: str = ""
    """Handle of the outlet that sends the rest; "" where there is none."""

    seconds: float = 0.0
    """Length of the whole file by its header; 0 where there is no rest."""

    missing: float = 0.0
    """Seconds that the header claims and that are not there; those of a rest come behind it."""


OnDone = Callable[[list[Sequence[FileHead]] | RequestError], None]
"""Takes the heads of each file: one, or one a channel."""


class FileDecoder:
    """Decodes the files of many requests at a time."""

    def __init__(
        self,
        settings: AudioSettings,
        clock: Callable[[], float] = time.monotonic,
        on_bug: Callable[[], None] = lambda: None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        """``on_bug`` is called when an ``on_done`` raised: a caller waits for an answer that will not come.

        ``stall_seconds`` is the longest wait for the reader of a rest, which may have to wait its turn; see :class:`Outlet`.
        """
        self.clock = clock
        self._on_bug = on_bug
        self._stall_seconds = stall_seconds
        self._settings = settings
        self._lock = threading.Lock()
        cores = usable_cores()
        # Walking through a large file is Python's work, of which only one thread gets on at a time.
        self._lanes = _Lane(cores), _Lane(max(1, cores // 2))
        """Small requests and large ones."""
        self._with_rests = 0
        """Requests of which the rest of a long file is not sent yet. They are counted apart: a rest waits until the turn of its
        recording has come, and short files must not wait for that."""
        self._rests = ThreadPoolExecutor(max(1, cores // 2), thread_name_prefix="asrloop-rests")
        """Decode rests a block at a time, in turn: on a thread for each, those of many long files would slow down all others."""
        self._closing = False

    def submit(
        self,
        files: Sequence[bytes],
        deadline: float | None,
        on_done: OnDone,
        warn: Callable[[str], None] = lambda _: None,
        *,
        by_channel: bool = False,
    ) -> None:
        """Decode all files of a request; return at once. ``deadline`` is a moment on ``clock``, in seconds.

        With ``by_channel`` each channel is decoded apart, which takes a walk through the file for each.
        ``warn`` is told of a file that is cut short. ``on_done`` is called exactly once, on a thread of the decoder. Raises
        Overloaded, without calling it, when ``audio.decode_inbox`` requests are there already.
        """
        lane = self._lanes[sum(map(len, files)) > SMALL_BYTES]
        with self._lock:
            if lane.taken >= self._settings.decode_inbox:
                raise Overloaded(f"{lane.taken} files are being decoded or wait (audio.decode_inbox); retry later")
            lane.taken += 1
        lane.threads.submit(self._work, lane, files, deadline, on_done, warn, by_channel)

    def close(self) -> None:
        """Answer all unfinished requests with EngineClosed and end the threads."""
        self._closing = True
        for lane in self._lanes:
            lane.threads.shutdown(wait=True)
        self._rests.shutdown(wait=True)

    def _work(
        self,
        lane: "_Lane",
        files: Sequence[bytes],
        deadline: float | None,
        on_done: OnDone,
        warn: Callable[[str], None],
        by_channel: bool,
    ) -> None:
        try:
            on_done(self._heads(files, deadline, warn, by_channel))
        except Exception:
            traceback.print_exc()
            self._on_bug()
        finally:
            with self._lock:
                lane.taken -= 1

    def _heads(
        self, files: Sequence[bytes], deadline: float | None, warn: Callable[[str], None], by_channel: bool
    ) -> list[Sequence[FileHead]] | RequestError:
        rests = _Rests(self._take_rests, self._give_rests_back)
        try:
            heads = self._channels if by_channel else self._mix
            return [heads(file, deadline, rests, warn) for file in files]
        except RequestError as error:
            return error
        except Exception as error:  # our own bug fails this request alone
            traceback.print_exc()
            return DecodeFailed(f"decoding the file failed: {error!r}")

    def _mix(
        self, content: bytes, deadline: float | None, rests: "_Rests", warn: Callable[[str], None]
    ) -> Sequence[FileHead]:
        return [self._head(self._work_on(content, deadline), rests, warn)]

    def _channels(
        self, content: bytes, deadline: float | None, rests: "_Rests", warn: Callable[[str], None]
    ) -> Sequence[FileHead]:
        work = self._work_on(content, deadline, 0)
        first = self._head(work, rests, warn, at_least=2)
        others = (self._work_on(content, deadline, channel) for channel in range(1, work.length.channels))
        return [first, *(self._head(other, rests, lambda _: None) for other in others)]

    def _work_on(self, content: bytes, deadline: float | None, channel: int | None = None) -> "_Work":
        return _Work(content, self._settings, self.clock, deadline, lambda: self._closing, channel)

    def _head(self, work: "_Work", rests: "_Rests", warn: Callable[[str], None], at_least: int = 1) -> FileHead:
        """Decode a short file whole, of a long one the beginning, and start a thread that sends the rest.

        Raises InvalidOption where it has fewer channels than ``at_least``."""
        head, rest = head_and_rest(iter(work))
        if work.length.channels < at_least:
            raise one_channel()
        if rest is None:
            if work.length.missing:
                warn(work.length.warning())
            return FileHead(head, missing=work.length.missing)
        rests.add()
        outlet = Outlet(self._stall_seconds)
        sending = (outlet, rest, work.length, rests, warn)
        threading.Thread(target=self._send, args=sending, name="asrloop-relay", daemon=True).start()
        return FileHead(head, outlet.handle, work.length.seconds)

    def _send(
        self, outlet: Outlet, rest: Iterator[Samples], length: Length, rests: "_Rests", warn: Callable[[str], None]
    ) -> None:
        try:
            outlet.send(self._in_turn(rest), lambda: length.missing)
            if length.missing:
                warn(length.warning())
        except Exception:  # our own bug fails this file alone: its reader sees the connection end
            traceback.print_exc()
        finally:
            rests.remove()

    def _in_turn(self, rest: Iterator[Samples]) -> Iterator[Samples]:
        """Yield the blocks of a rest, each decoded when its turn has come, and empty ones while that takes long. Raises
        RequestError."""
        while True:
            try:
                decoding = self._rests.submit(next, rest, None)
            except RuntimeError:
                raise EngineClosed("the server is closing: send the request again") from None
            while not wait([decoding], ALIVE_SECONDS).done:
                yield np.zeros(0, np.float32)
            block = decoding.result()
            if block is None:
                return
            yield block

    def _take_rests(self) -> None:
        with self._lock:
            if self._with_rests >= self._settings.decode_inbox:
                raise Overloaded(
                    f"{self._with_rests} requests with long files are recognised or wait (audio.decode_inbox); retry later"
                )
            self._with_rests += 1

    def _give_rests_back(self) -> None:
        with self._lock:
            self._with_rests -= 1


class _Lane:
    """Threads for requests of one kind."""

    def __init__(self, threads: int) -> None:
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="asrloop-decode")
        self.taken = 0
        """Requests that are not answered yet."""


class _Rests:
    """Unsent rests of one request's files. Together they take one place, until the last is sent."""

    def __init__(self, take: Callable[[], None], give_back: Callable[[], None]) -> None:
        self._take = take
        self._give_back = give_back
        self._lock = threading.Lock()
        self._count = 0

    def add(self) -> None:
        """Note one more. Raises Overloaded."""
        with self._lock:
            if self._count == 0:
                self._take()
            self._count += 1

    def remove(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._give_back()


class _Work:
    """The blocks of one file, decoded within its limits of time.

    The decoder's own limit counts processor time of the thread and of the process that decode, so that a file does not pay for its
    neighbours. A rest is decoded on another thread than the head, but each block on one.
    """

    def __init__(
        self,
        content: bytes,
        settings: AudioSettings,
        clock: Callable[[], float],
        deadline: float | None,
        is_closing: Callable[[], bool],
        channel: int | None,
    ) -> None:
        self.seconds = 0.0
        """Length of the audio so far."""
        self.length = Length()
        self._clock = clock
        self._deadline = deadline
        self._is_closing = is_closing
        self._spent = self._resumed_at = 0.0
        """Processor time, in seconds: of all blocks so far, and of this thread when it began the one under way."""
        self._content = content
        self._settings = settings
        self._channel = channel

    def __iter__(self) -> Iterator[Samples]:
        # The blocks hold the file, and ask this for its limits: were they kept here, only the collector of cycles would let go of a
        # file whose reader left.
        settings = self._settings
        decoded = blocks(self._content, settings.max_seconds, self._check, self.length, settings.formats, self._channel)
        while True:
            self._resumed_at = time.thread_time()
            self._check()
            block = next(decoded, None)
            self._spent += time.thread_time() - self._resumed_at
            if block is None:
                return
            self.seconds += block.size / SAMPLE_RATE
            yield block

    def _check(self) -> None:
        """Raise the RequestError that ends the work, if one does."""
        if self._is_closing():
            raise EngineClosed("the server is closing: send the request again")
        if self._deadline is not None and self._clock() > self._deadline:
            raise DeadlineExceeded("the request's timeout passed before its file was decoded; give it more time")
        budget = self._settings.decode_seconds
        limit = budget * (1 + self.seconds // BUDGET_SECONDS)
        if self._spent + time.thread_time() - self._resumed_at + self.length.elsewhere > limit:
            raise InvalidAudio(
                f"AUDIO takes over {budget:g} s to decode for {BUDGET_SECONDS} s of sound (audio.decode_seconds); "
                "send it as 16 kHz mono"
            )
