"""What can be transcribed, as one of two things: samples for `asr_ensemble`, or the bytes of a file for `asr_file`."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asrloop_client.errors import InvalidAudio

SAMPLE_RATES = (8000, 48000)
"""The lowest and the highest rate `asr_ensemble` takes; `asr_file` takes any."""

Samples = npt.NDArray[np.float32]
"""[N], mono, in -1..1."""

Audio = str | os.PathLike[str] | bytes | bytearray | npt.NDArray[Any]
"""A path, the bytes of an audio file, or mono samples [N]: floats in -1..1, or int16."""


@dataclass(frozen=True)
class Pcm:
    """Samples and their rate in Hz."""

    samples: Samples
    sample_rate: int


@dataclass(frozen=True)
class EncodedFile:
    """The bytes of a WAV, FLAC, OGG or MP3 file."""

    content: bytes


def load(audio: Audio, sample_rate: int) -> Pcm | EncodedFile:
    """`audio` ready to send; `sample_rate` is the rate of an array, and ignored for files, which say their own.

    A file is decoded here when soundfile is installed and knows it, and sent as it is otherwise. Raises InvalidAudio,
    or OSError when the file cannot be read.
    """
    if isinstance(audio, np.ndarray):
        return Pcm(_as_mono_float(audio), sample_rate)
    if isinstance(audio, bytes | bytearray):
        return EncodedFile(bytes(audio))
    return _read(Path(audio))


def _as_mono_float(array: npt.NDArray[Any]) -> Samples:
    if array.ndim != 1:
        raise InvalidAudio(f"samples have shape {array.shape}: give one dimension, mono, for instance by .mean(axis=1)")
    if array.dtype == np.int16:
        return array.astype(np.float32) / np.float32(32768)
    if not np.issubdtype(array.dtype, np.floating):
        raise InvalidAudio(f"samples are {array.dtype}: give floats in -1..1, or int16")
    return np.ascontiguousarray(array, np.float32)


def _read(path: Path) -> Pcm | EncodedFile:
    if importlib.util.find_spec("soundfile") is None:
        return EncodedFile(path.read_bytes())
    import soundfile

    with path.open("rb") as file:
        try:
            samples, sample_rate = soundfile.read(file, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            # Not a format of this libsndfile; the server's may know it, and its error names the limits.
            return EncodedFile(path.read_bytes())
    if not SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]:
        return EncodedFile(path.read_bytes())
    return Pcm(np.ascontiguousarray(samples.mean(axis=1), np.float32), sample_rate)
