"""One encoded stream inside a file: the bytes that a decoder shall see, and how many samples must come out of them."""

import io
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from typing_extensions import Buffer

from asrloop.errors import InvalidAudio

Check = Callable[[], None]
"""Called between pieces of work; raises a RequestError when the work shall stop."""

CHECK_EVERY = 4096
"""Frames or pages between two calls of a Check."""


class Bitstream(NamedTuple):
    """What one decoder reads from start to end."""

    pieces: Sequence[memoryview]
    """Bytes of the file, or a header made here, in order. Nothing is copied."""

    frames: int | None = None
    """Samples per channel that the container says or that were counted; None when the decoder knows."""

    slack: int = 0
    """How many of them may be missing: what an MP3 decoder drops at the start."""

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(map(len, self.pieces))

    def open(self) -> "Pieces":
        """A seekable file of the pieces."""
        return Pieces(self.pieces)


class Pieces(io.RawIOBase):
    """Several buffers read as one file."""

    def __init__(self, pieces: Sequence[memoryview]) -> None:
        self._pieces = pieces
        self._starts = [0, *accumulate(len(piece) for piece in pieces)]
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a byte; before the start is the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill ``buffer`` as far as there are bytes."""
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


def cut_short(said: str, found: str) -> InvalidAudio:
    """The error for a file that ends before its own header says."""
    return InvalidAudio(f"AUDIO is cut short: {said}, {found}; send the whole file")
