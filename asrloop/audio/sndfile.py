"""Reads one bitstream by libsndfile, from start to end, as far as it goes."""

from types import TracebackType
from typing import Self

import numpy as np
import soundfile

from asrloop.audio.bitstream import Bitstream, Check
from asrloop.audio.containers import ACCEPTED
from asrloop.audio.mixing import Samples

_ERRORS = (soundfile.SoundFileError, RuntimeError, ValueError, OSError)


class NoSound(Exception):
    """Nothing of a bitstream can be decoded; the text is that of the InvalidAudio it becomes where no other has sound."""


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # it has no types
    """A file that is read from start to end: soundfile would seek after each block, which fails in FLAC that is cut."""

    def seekable(self) -> bool:
        return False


class Sndfile:
    """The sound of a bitstream. Raises NoSound, and what ``check`` raises."""

    def __init__(self, stream: Bitstream, check: Check) -> None:
        self._stream, self._pieces, self._got = stream, stream.open(check), 0
        try:
            self._file = _Forward(self._pieces)
        except _ERRORS as reason:
            raise self._pieces.stopped or unreadable(stream.size, reason) from None
        self.rate, self.channels = int(self._file.samplerate), int(self._file.channels)
        self.frames = int(self._file.frames) if stream.frames is None else stream.frames
        """Samples per channel by the header."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, size: int) -> tuple[Samples, bool]:
        """Return the next block, f32 [up to ``size``, channels], and whether it is the last."""
        block, error = self._block(size)
        if self._pieces.stopped:
            raise self._pieces.stopped
        self._got += len(block)
        if error and not self._got:
            raise unreadable(self._stream.size, error)
        return block, len(block) == 0 or error is not None

    def missing(self) -> tuple[float, float]:
        """Return the seconds that are missing by the header, known when all is read, and how many of them are no loss."""
        missing = max(self.frames, round(self._got * self._stream.claims)) - self._got
        return missing / self.rate, self._stream.slack / self.rate

    def _block(self, size: int) -> tuple[Samples, Exception | None]:
        """Return the next block, empty at the end, and the error that ended it, behind which nothing can be read."""
        block = np.full((size, self.channels), np.nan, np.float32)
        try:
            return self._file.read(out=block), None
        except _ERRORS as error:
            # The decoder says how far it came by nothing else.
            untouched = np.isnan(block).all(axis=1)
            return block[: int(untouched.argmax()) if untouched.any() else size], error


def unreadable(size: int, reason: object) -> NoSound:
    """Make the error for ``size`` bytes that cannot be read."""
    text = str(getattr(reason, "error_string", reason))
    why = f" ({text})" if text else ""
    return NoSound(f"AUDIO: {size} bytes that are no readable audio file{why}: send {ACCEPTED}")
