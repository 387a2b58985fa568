"""One encoded stream inside a file: the bytes that the decoder reads, and the number of samples that it must give."""

import io
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from typing_extensions import Buffer

from asrloop.audio.containers import Container
from asrloop.errors import InvalidAudio

Check = Callable[[], None]
"""Called between pieces of work; raises a RequestError to stop the work."""

CHECK_EVERY = 4096
"""Frames or pages between two calls of a Check."""

MOST_CHUNKS = 10_000
"""Chunks, tags, or places that only look like a frame, that are looked at: honest files have some ten, hostile ones could have a
hundred million."""

MOST_PIECES = 1_000
"""Buffers of a bitstream that are not copied to one."""

MOST_STREAMS, STREAM_BYTES = 10_000, 2_000
"""Most streams of a file, and the bytes for each beyond a hundred: to open a decoder takes as long as to decode some seconds."""


class Bitstream(NamedTuple):
    """Bytes that one decoder reads from start to end."""

    pieces: Sequence[memoryview]
    """Bytes of the file, or a header made here, in order."""

    frames: int | None = None
    """Samples per channel by the container's header or by count; None to take the decoder's number."""

    slack: int = 0
    """Frames that may be missing without a word: one that is torn at the end, and those that an MP3 decoder drops at the start."""

    claims: float = 1.0
    """Length that the header claims, as a multiple of what is there."""

    container: Container | None = None
    """What FFmpeg has to take apart; None where libsndfile decodes."""

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

    def open(self, check: Check = lambda: None) -> "Pieces":
        return Pieces(self.pieces, check)


class Pieces(io.RawIOBase):
    """A seekable file that is made of several buffers. It ends where ``check`` raises: a decoder may read for long in one call."""

    def __init__(self, pieces: Sequence[memoryview], check: Check) -> None:
        self.stopped: Exception | None = None
        """What ``check`` raised. A decoder written in C cannot pass it on."""
        self._check = check
        self._pieces = pieces
        self._starts = [0, *accumulate(len(piece) for piece in pieces)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a byte; a place before the start becomes the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Buffer, /) -> int:
        if not self._may_go_on():
            return 0
        target = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(target) and self._position < self._starts[-1]:
            index = bisect_right(self._starts, self._position) - 1
            offset = self._position - self._starts[index]
            part = self._pieces[index][offset : offset + len(target) - filled]
            target[filled : filled + len(part)] = part
            filled += len(part)
            self._position += len(part)
        return filled

    def _may_go_on(self) -> bool:
        if self.stopped is None:
            try:
                self._check()
            except Exception as error:
                self.stopped = error
        return self.stopped is None


UNKNOWN_FROM = 0x7F00_0000
"""Sizes from here on stand for unknown, as in files written to a pipe (0x7ffff000, 0x80000000, 0xffffffff, ...). No request can
hold so many bytes, because a gRPC message is limited to 2 GiB."""


def claims_of(size: int, available: int, unknown_from: int = UNKNOWN_FROM) -> float:
    """Return :attr:`Bitstream.claims` where the header says ``size`` bytes of sound and ``available`` follow."""
    return size / available if 0 < available < size < unknown_from else 1.0


def cut_short(said: str, found: str) -> InvalidAudio:
    """Make the error for a file that ends before its sound begins."""
    return InvalidAudio(f"AUDIO is cut short: {said}, {found}; send the whole file")


def pieces_of(content: memoryview, ranges: Sequence[Sequence[int]]) -> list[memoryview]:
    """Return the bytes from the start to the end of each range. Many are joined: each takes 200 bytes, however small it is."""
    pieces = [content[start:end] for start, end in ranges]
    return pieces if len(pieces) <= MOST_PIECES else [memoryview(b"".join(pieces))]


def check_streams(count: int, size: int) -> None:
    """Raise InvalidAudio for more than a file of ``size`` bytes may have."""
    most = min(MOST_STREAMS, 100 + size // STREAM_BYTES)
    if count > most:
        raise InvalidAudio(
            f"AUDIO has over {most} streams in {size} bytes, one behind the other: the limit is one for {STREAM_BYTES} bytes, and "
            f"{MOST_STREAMS} in all; encode it as one"
        )
