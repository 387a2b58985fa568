"""What can be transcribed, as one of two things: samples for `asr_ensemble`, or the bytes of a file for `asr_file`.

A file is never decoded here: the server does it, with the same result for every caller.
"""

from __future__ import annotations

import array
import io
import math
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from asrloop_client.errors import InvalidAudio, UnreadableFile

Samples = npt.NDArray[np.float32]
"""[N], mono, in -1..1."""

Audio = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | npt.NDArray[Any] | Sequence[float]
"""A path (`-` is standard input), the bytes of an audio file, a binary file object, or mono samples [N] (floats or int16)."""

LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
"""Sample rates that the server takes, in Hz."""
_WORKS = "give a path, the bytes of a file, a binary file object, or mono samples as floats in -1..1 or as int16"
_HIGHEST_RATE = 2**31 - 1
_MOST_BYTES = 2**31 - 2**20
"""A message of gRPC holds no 2 GiB."""
_STREAMED = (0, 0x7FFFF000)
"""A data chunk of no size or of at least this many bytes was written by a recorder that did not know its length."""


@dataclass(frozen=True)
class Pcm:
    """Samples and their rate in Hz."""

    samples: Samples
    sample_rate: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples.size / self.sample_rate


@dataclass(frozen=True)
class EncodedFile:
    """The bytes of a WAV, FLAC, OGG or MP3 file."""

    content: bytes

    def __post_init__(self) -> None:
        """Raises InvalidAudio when it fits into no request."""
        _check_size(len(self.content))

    @property
    def duration(self) -> float | None:
        """Seconds, as its header says: by soundfile where that is installed, else for plain WAV files only. None if unknown."""
        try:
            import soundfile
        except ImportError:
            return _wav_seconds(self.content)
        try:
            return float(soundfile.info(io.BytesIO(self.content)).duration)
        except (soundfile.LibsndfileError, OverflowError):
            return None


def is_slow(audio: Audio) -> bool:
    """Whether `load` may take long enough to be done in a thread: it reads a file, or converts a list or much."""
    return not isinstance(audio, bytes | bytearray | memoryview) and getattr(audio, "size", math.inf) > 1 << 20


def load(audio: Audio, sample_rate: float) -> Pcm | EncodedFile:
    """`audio` ready to send; `sample_rate` is the rate of samples in Hz, and ignored for files, which say their own.

    Raises InvalidAudio, or UnreadableFile.
    """
    if isinstance(audio, bytes | bytearray | memoryview):
        return EncodedFile(bytes(audio))
    if isinstance(audio, str | os.PathLike):
        return EncodedFile(_read_path(audio))
    if hasattr(audio, "read"):
        return EncodedFile(_read(audio, "the file object"))
    if isinstance(audio, list | tuple | array.array) or hasattr(audio, "__array__"):
        return Pcm(_as_mono_float(audio), as_rate(sample_rate))
    raise InvalidAudio(f"audio is of the type {type(audio).__name__}: {_WORKS}")


def as_chunk(given: Any) -> npt.NDArray[Any]:
    """A chunk of live audio [N]: int16 as it is, also from bytes of 16-bit PCM, and all else as float32. Raises InvalidAudio."""
    if isinstance(given, bytes | bytearray | memoryview):
        if len(given) % 2:
            raise InvalidAudio(f"a chunk has {len(given)} bytes: give 16-bit PCM, two bytes a sample")
        return np.frombuffer(bytes(given), "<i2")
    # Copies: a recorder may fill the same array again before the chunk is sent.
    if getattr(given, "dtype", None) == np.int16 and given.ndim == 1:
        return np.array(given, np.int16)
    samples = np.array(_as_mono_float(given))
    # The server's answer would come too late to say which chunk it was, and end the stream.
    if not np.isfinite(samples).all():
        at = int(np.argmin(np.isfinite(samples)))
        raise InvalidAudio(f"a chunk holds {samples[at]} at sample {at}: all samples must be finite numbers")
    return samples


def _read_path(path: str | os.PathLike[str]) -> bytes:
    if path == "-":
        return _read(sys.stdin.buffer, "standard input")
    try:
        _check_size(Path(path).stat().st_size)
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        # ValueError: a name with a null character in it.
        why = getattr(error, "strerror", None) or error
        raise UnreadableFile(f"{path} cannot be read: {why}. Check the path and its permissions.") from None


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise InvalidAudio(
            f"the file has {size} bytes: one request holds {_MOST_BYTES}. Send it as FLAC, OGG or MP3, or in shorter pieces."
        )


def _read(file: Any, name: str) -> bytes:
    try:
        content = file.read()
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"{name} cannot be read: {error}. Open it in binary mode and keep it open.") from None
    if not isinstance(content, bytes | bytearray | memoryview):
        raise InvalidAudio(f"{name} gives {type(content).__name__} instead of bytes: open it in binary mode, 'rb'")
    return bytes(content)


def _as_mono_float(given: Any) -> Samples:
    try:
        samples = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidAudio(f"the samples make no array: {error}; {_WORKS}") from None
    if samples.ndim != 1:
        raise InvalidAudio(
            f"samples have shape {samples.shape}: give one dimension, mono, for instance by .mean(axis=1)"
        )
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(32768)
    if not np.issubdtype(samples.dtype, np.floating):
        raise InvalidAudio(f"samples are {samples.dtype}: give floats in -1..1, or int16")
    return np.ascontiguousarray(samples, np.float32)


def as_rate(rate: Any) -> int:
    """A sample rate in Hz. Raises InvalidAudio."""
    try:
        whole = int(rate)
    except (TypeError, ValueError, OverflowError):
        whole = 0
    if whole != rate or not 0 < whole <= _HIGHEST_RATE or isinstance(rate, bool | str):
        raise InvalidAudio(f"sample_rate is {rate!r}: give a whole number of samples a second, such as 16000")
    return whole


def _wav_seconds(content: bytes) -> float | None:
    """Of a WAV file (RIFF, "Multimedia Programming Interface and Data Specifications 1.0"), from its chunks."""
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
