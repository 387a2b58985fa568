"""Audio of a call, in one of two forms: samples for `asr_ensemble`, or the bytes of a file for `asr_file`.

Files are never decoded here: the server does it, with the same result for every caller.
"""

from __future__ import annotations

import array
import numbers
import os
import select
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

SUFFIXES = (
    ".3gp", ".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".avi", ".caf", ".flac", ".flv", ".m4a", ".m4b", ".m4v", ".mka",
    ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpga", ".oga", ".ogg", ".opus", ".snd", ".w64", ".wav", ".wave", ".webm", ".wma",
)  # fmt: skip
"""Endings of files that the server decodes."""

LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
"""Sample rates that the server takes, in Hz."""
_WORKS = "give a path, the bytes of a file, a binary file object, or mono samples as floats in -1..1 or as int16"
_MOST_BYTES = 2**31 - 2**20
"""A gRPC message is smaller than 2 GiB."""


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
    """The bytes of an audio file. Raises InvalidAudio when they do not fit into a request."""

    content: bytes

    def __post_init__(self) -> None:
        _check_size(len(self.content))

    @property
    def duration(self) -> float | None:
        """Seconds, from the header; None when that does not say it, or the client cannot read it."""
        from asrloop_client.duration import seconds_of

        return seconds_of(self.content)


def is_slow(audio: Audio) -> bool:
    """True when `load` should run in a thread: it reads a file, or converts a list or many samples."""
    size = getattr(audio, "size", None)
    return not isinstance(audio, bytes | bytearray | memoryview) and not (isinstance(size, int) and size <= 1 << 20)


def load(audio: Audio, sample_rate: float) -> Pcm | EncodedFile:
    """Return `audio` ready to send; `sample_rate` is the rate of samples in Hz, ignored for files.

    Raises InvalidAudio, or UnreadableFile.
    """
    if isinstance(audio, bytes | bytearray | memoryview):
        return EncodedFile(bytes(audio))
    if isinstance(audio, str | os.PathLike):
        return EncodedFile(_read_path(audio))
    if hasattr(audio, "read"):
        return EncodedFile(_read(audio, "the file object"))
    if isinstance(audio, list | tuple | array.array) or hasattr(audio, "__array__"):
        return Pcm(mono_float(audio), as_rate(sample_rate))
    raise InvalidAudio(f"audio is of the type {type(audio).__name__}: {_WORKS}")


def as_rate(rate: Any) -> int:
    """Return a sample rate in Hz as an int. Raises InvalidAudio."""
    number = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not (number and LOWEST_RATE <= rate <= HIGHEST_RATE and rate == int(rate)):
        raise InvalidAudio(f"sample_rate is {rate!r}: give a whole number in {LOWEST_RATE}..{HIGHEST_RATE} Hz")
    return int(rate)


def mono_float(given: Any) -> Samples:
    """Return samples [N] as float32, without a copy where they are. Raises InvalidAudio."""
    try:
        samples = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidAudio(f"the samples make no array: {error}; {_WORKS}") from None
    if samples.ndim != 1:
        raise InvalidAudio(
            f"samples have shape {samples.shape}: give one dimension, mono, such as .mean(axis=1); a file for diarize='channels'"
        )
    if samples.dtype == np.int16:
        return from_int16(samples)
    if not np.issubdtype(samples.dtype, np.floating):
        raise InvalidAudio(f"samples are {samples.dtype}: give floats in -1..1, or int16")
    return np.ascontiguousarray(samples, np.float32)


def from_int16(samples: npt.NDArray[np.int16]) -> Samples:
    """Return 16-bit samples of any shape as float32 in -1..1."""
    return samples.astype(np.float32) / np.float32(32768)


def check_finite(samples: Samples) -> None:
    """Raise InvalidAudio that names the first sample [N] that is NaN or infinite."""
    finite = np.isfinite(samples)
    if not finite.all():
        at = int(np.argmin(finite))
        raise InvalidAudio(f"{samples[at]} at sample {at}: all samples must be finite numbers")


def _read_path(path: str | os.PathLike[str]) -> bytes:
    if path == "-":
        return _read(_StandardInput(), "standard input")
    try:
        _check_size(Path(path).stat().st_size)
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        # ValueError: a name with a null character in it.
        why = getattr(error, "strerror", None) or error
        raise UnreadableFile(f"{path} cannot be read: {why}. Check the path and its permissions.") from None


class _StandardInput:
    """Reads without holding the lock of `sys.stdin` while it waits: the interpreter needs that lock to end, and would abort."""

    def read(self) -> Any:
        file: Any = sys.stdin.buffer
        content = bytearray()
        try:
            descriptor = file.fileno()
        except OSError:  # the program has put something else in its place
            return file.read()
        while select.select([descriptor], [], []) and (read := file.read1(1 << 16)):
            content += read
        return bytes(content)


def _read(file: Any, name: str) -> bytes:
    try:
        content = file.read()
    except Exception as error:  # the caller's own object
        said = error if isinstance(error, OSError | ValueError) else repr(error)
        raise UnreadableFile(f"{name} cannot be read: {said}. Open it in binary mode and keep it open.") from None
    if not isinstance(content, bytes | bytearray | memoryview):
        raise InvalidAudio(f"{name} gives {type(content).__name__} instead of bytes: open it in binary mode, 'rb'")
    return bytes(content)


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise InvalidAudio(
            f"the file has {size} bytes: one request holds {_MOST_BYTES}. Send it as FLAC, OGG or MP3, or in shorter pieces."
        )
