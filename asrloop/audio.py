"""Turns what callers send into clean samples: f32 [N], mono, 16 kHz, finite. Everything else is InvalidAudio."""

import io
import math
import struct

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asrloop.engine.errors import InvalidAudio, TooLong

SAMPLE_RATE = 16_000
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
# Lengths that writers to a pipe put where they cannot know the real one.
_UNKNOWN_LENGTHS = (0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF)

Samples = NDArray[np.float32]


def from_pcm(
    wav: NDArray[np.float32],
    lengths: NDArray[np.int32] | None,
    sample_rate: int,
    max_seconds: float,
    names: tuple[str, str] = ("WAV", "WAV_LENS"),
) -> list[Samples]:
    """Check a batch of PCM and copy the valid part of each row; see :func:`resampled` for the rest.

    ``wav`` is f32 [B, N] at ``sample_rate`` Hz; ``lengths`` i32 [B, 1] says how many samples of each row are valid
    (1..N), None means all. ``names`` are what the caller calls the two tensors. Raises InvalidAudio.
    """
    name, lengths_name = names
    if wav.ndim != 2:
        raise InvalidAudio(f"{name} has shape {list(wav.shape)}: send rows of samples, shape [B, N]")
    if wav.shape[1] == 0:
        raise InvalidAudio(f"{name} has 0 samples: send at least 1")
    if lengths is not None and lengths.size != len(wav):
        raise InvalidAudio(f"{name} has {len(wav)} rows, {lengths_name} {lengths.size}: send one length a row")
    rows = []
    for row, length in zip(wav, [row.size for row in wav] if lengths is None else lengths.reshape(-1), strict=True):
        if not 1 <= length <= row.size:
            raise InvalidAudio(f"{lengths_name} is {length}: it must be between 1 and the {row.size} samples in {name}")
        _check_duration(length / sample_rate, max_seconds)
        _check_finite(row[:length], name)
        rows.append(row[:length].copy())
    return rows


def from_file(content: bytes, max_seconds: float) -> Samples:
    """Decode a WAV, FLAC, OGG or MP3 file of any rate and channel count to mono 16 kHz. Raises InvalidAudio."""
    if not content:
        raise InvalidAudio("AUDIO has 0 bytes: send the bytes of a WAV, FLAC, OGG or MP3 file")
    _check_wav_complete(content)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate, announced = int(file.samplerate), int(file.frames)
            if rate <= 0:
                raise InvalidAudio(f"AUDIO says a sample rate of {rate} Hz: it must be above 0")
            _check_duration(announced / rate, max_seconds)
            # One frame beyond the limit is enough to know that a file with an unknown length is too long.
            frames = file.read(math.floor(max_seconds * rate) + 1, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, InvalidAudio):
            raise
        reason = getattr(error, "error_string", str(error))
        raise InvalidAudio(
            f"AUDIO: {len(content)} bytes that are no readable audio file ({reason}): send WAV, FLAC, OGG or MP3"
        ) from None
    if 0 < announced != len(frames):
        raise InvalidAudio(
            f"AUDIO is cut short: its header says {announced} samples, {len(frames)} could be read; send the whole file"
        )
    if len(frames) == 0:
        raise InvalidAudio("AUDIO has 0 samples: send at least 1")
    _check_duration(len(frames) / rate, max_seconds)
    _check_finite(frames, "AUDIO")
    return resampled(frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1), rate)


def checked_rate(value: object) -> int:
    """The request parameter ``sample_rate`` in Hz, 8000..48000. Raises InvalidAudio."""
    try:
        rate = int(value) if isinstance(value, (int, str)) or (isinstance(value, float) and value.is_integer()) else -1
    except ValueError:
        rate = -1
    if isinstance(value, bool) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InvalidAudio(
            f"sample_rate is {value!r}: it must be a whole number of Hz between {LOWEST_RATE} and {HIGHEST_RATE}"
        )
    return rate


def resampled(samples: Samples, rate: int) -> Samples:
    """``samples`` f32 [N] at ``rate`` Hz as 16 kHz, at least one sample."""
    if rate == SAMPLE_RATE:
        return np.ascontiguousarray(samples)
    at_16k: Samples = soxr.resample(samples, rate, SAMPLE_RATE)
    return at_16k if at_16k.size else np.zeros(1, np.float32)


def _check_duration(seconds: float, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise TooLong(
            f"audio is {seconds:.2f} s long: the limit is {max_seconds:g} s (audio.max_seconds); send it in shorter pieces"
        )


def _check_finite(samples: NDArray[np.float32], name: str) -> None:
    # A sum is NaN or infinite when any sample is; the exact look is only for the message.
    if not math.isfinite(float(samples.sum(dtype=np.float64))):
        first = int(np.argmin(np.isfinite(samples.reshape(-1))))
        raise InvalidAudio(
            f"{name} holds {samples.reshape(-1)[first]} at sample {first}: all samples must be finite numbers"
        )


def _check_wav_complete(content: bytes) -> None:
    """libsndfile reads what is left of a truncated WAV without a word, so compare its data chunk with the bytes here."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        available = len(content) - position - 8
        if name == b"data":
            if size > available and size not in _UNKNOWN_LENGTHS:
                raise InvalidAudio(
                    f"AUDIO is cut short: its WAV header says {size} bytes of samples, {available} follow; send the whole file"
                )
            return
        position += 8 + size + size % 2
    raise InvalidAudio(f"AUDIO is cut short: a WAV of {len(content)} bytes without a data chunk; send the whole file")
