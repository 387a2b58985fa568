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


@dataclass(frozen=True)
class Samples:
    """Mono PCM: `values` FP32 [N] in -1..1 at `sample_rate` Hz."""

    values: npt.NDArray[np.float32]
    sample_rate: int


@dataclass(frozen=True)
class EncodedFile:
    """The bytes of a WAV, FLAC, OGG or MP3 file."""

    content: bytes


Audio = str | os.PathLike[str] | bytes | bytearray | npt.NDArray[Any]
"""A path, the bytes of an audio file, or mono samples [N]: floats in -1..1, or int16."""


def load(audio: Audio, sample_rate: int) -> Samples | EncodedFile:
    """`audio` ready to send; `sample_rate` is the rate of an array, and ignored for files, which say their own.

    A file is decoded here when soundfile is installed and knows it, and sent as it is otherwise. Raises InvalidAudio,
    or OSError when the file cannot be read.
    """
    if isinstance(audio, np.ndarray):
        return Samples(_as_mono_float(audio), sample_rate)
    if isinstance(audio, bytes | bytearray):
        return EncodedFile(bytes(audio))
    return _read(Path(audio))


def _as_mono_float(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if array.ndim != 1:
        raise InvalidAudio(f"samples have shape {array.shape}: give one dimension, mono, for instance by .mean(axis=1)")
    if array.dtype == np.int16:
        return array.astype(np.float32) / np.float32(32768)
    if not np.issubdtype(array.dtype, np.floating):
        raise InvalidAudio(f"samples are {array.dtype}: give floats in -1..1, or int16")
    return np.ascontiguousarray(array, np.float32)


def _read(path: Path) -> Samples | EncodedFile:
    if importlib.util.find_spec("soundfile") is None:
        return EncodedFile(path.read_bytes())
    import soundfile

    with path.open("rb") as file:
        try:
            values, sample_rate = soundfile.read(file, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            # Not a format of this libsndfile; the server's may know it, and its error names the limits.
            return EncodedFile(path.read_bytes())
    if not SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]:
        return EncodedFile(path.read_bytes())
    return Samples(np.ascontiguousarray(values.mean(axis=1), np.float32), sample_rate)
