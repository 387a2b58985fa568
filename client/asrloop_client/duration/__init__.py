"""The length of an audio file, from its header alone.

A hostile file takes long: read those of your own, and not on a loop that others share.
"""

from __future__ import annotations

import io
import struct
from typing import IO

_STREAMED = (0, 0x7FFFF000)
"""A data chunk of no size or of at least this many bytes was written by a recorder that did not know its length."""


_UNKNOWN_FRAMES = 2**63 - 1
"""What libsndfile says of a FLAC file that was written to a pipe, or by Android."""


def seconds_of(file: bytes | IO[bytes]) -> float | None:
    """Return seconds, read by soundfile where that is installed, else for plain WAV files only. None if unknown.

    A file object is read from where it is.
    """
    content = file if isinstance(file, bytes) else file.read()
    try:
        import soundfile
    except ImportError:
        return _wav_seconds(content)
    try:
        info = soundfile.info(_Content(content))
    except (soundfile.LibsndfileError, OverflowError):
        return None
    return float(info.duration) if info.frames < _UNKNOWN_FRAMES else None


class _Content(io.BytesIO):
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a byte; a place before the start becomes the start. libsndfile asks for one where a header is wrong."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: len(self.getbuffer())}[whence]
        return super().seek(max(0, base + offset))


def _wav_seconds(content: bytes) -> float | None:
    """Read the chunks of a WAV file (RIFF, "Multimedia Programming Interface and Data Specifications 1.0")."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    position, byte_rate = 12, 0
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        position += 8
        if name == b"fmt " and position + 12 <= len(content):
            (byte_rate,) = struct.unpack_from("<I", content, position + 8)
        if name == b"data":
            there = len(content) - position
            return min(there, size if _STREAMED[0] < size < _STREAMED[1] else there) / byte_rate if byte_rate else None
        position += size + size % 2
    return None
