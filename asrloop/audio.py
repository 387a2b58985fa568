"""Turns what callers send into clean samples: f32 [N], mono, 16 kHz, finite. Everything else is an AudioError."""

import io
import math
import struct

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
# Lengths that writers to a pipe put where they cannot know the real one.
_UNKNOWN_LENGTHS = (0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF)

Samples = NDArray[np.float32]


class AudioError(ValueError):
    """Audio that cannot be transcribed; the message names the value, the limit and the mend."""


def from_pcm(wav: NDArray[np.float32], length: int | None, sample_rate: object, max_seconds: float) -> Samples:
    """Check one utterance of PCM and resample it to 16 kHz.

    ``wav`` is f32 [N]; ``length`` (1..N) says how many of its samples are valid, None means all; ``sample_rate`` is
    in Hz, 8000..48000. Raises AudioError.
    """
    rate = _checked_rate(sample_rate)
    if wav.ndim != 1:
        raise AudioError(f"WAV has shape {list(wav.shape)}: one utterance must be a row of samples, shape [N]")
    if wav.size == 0:
        raise AudioError("WAV has 0 samples: send at least 1")
    if length is not None and not 1 <= length <= wav.size:
        raise AudioError(f"WAV_LENS is {length}: it must be between 1 and the {wav.size} samples in WAV")
    samples = wav[:length]
    _check_duration(samples.size / rate, max_seconds)
    _check_finite(samples, "WAV")
    return _resampled(samples, rate)


def from_file(content: bytes, max_seconds: float) -> Samples:
    """Decode a WAV, FLAC, OGG or MP3 file of any rate and channel count to mono 16 kHz. Raises AudioError."""
    if not content:
        raise AudioError("AUDIO has 0 bytes: send the bytes of a WAV, FLAC, OGG or MP3 file")
    _check_wav_complete(content)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate, announced = int(file.samplerate), int(file.frames)
            if rate <= 0:
                raise AudioError(f"AUDIO says a sample rate of {rate} Hz: it must be above 0")
            _check_duration(announced / rate, max_seconds)
            # One frame beyond the limit is enough to know that a file with an unknown length is too long.
            frames = file.read(math.floor(max_seconds * rate) + 1, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, AudioError):
            raise
        reason = getattr(error, "error_string", str(error))
        raise AudioError(
            f"AUDIO: {len(content)} bytes that are no readable audio file ({reason}): send WAV, FLAC, OGG or MP3"
        ) from None
    if 0 < announced != len(frames):
        raise AudioError(
            f"AUDIO is cut short: its header says {announced} samples, {len(frames)} could be read; send the whole file"
        )
    if len(frames) == 0:
        raise AudioError("AUDIO has 0 samples: send at least 1")
    _check_duration(len(frames) / rate, max_seconds)
    _check_finite(frames, "AUDIO")
    return _resampled(frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1), rate)


def _checked_rate(value: object) -> int:
    try:
        rate = int(value) if isinstance(value, (int, str)) or (isinstance(value, float) and value.is_integer()) else -1
    except ValueError:
        rate = -1
    if isinstance(value, bool) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"sample_rate is {value!r}: it must be a whole number of Hz between {LOWEST_RATE} and {HIGHEST_RATE}"
        )
    return rate


def _check_duration(seconds: float, max_seconds: float) -> None:
    if seconds > max_seconds:
        raise AudioError(
            f"audio is {seconds:.2f} s long: the limit is {max_seconds:g} s (audio.max_seconds); send it in shorter pieces"
        )


def _check_finite(samples: NDArray[np.float32], name: str) -> None:
    # A sum is NaN or infinite when any sample is; the exact look is only for the message.
    if not math.isfinite(float(samples.sum(dtype=np.float64))):
        first = int(np.argmin(np.isfinite(samples.reshape(-1))))
        raise AudioError(
            f"{name} holds {samples.reshape(-1)[first]} at sample {first}: all samples must be finite numbers"
        )


def _resampled(samples: Samples, rate: int) -> Samples:
    if rate == SAMPLE_RATE:
        return np.ascontiguousarray(samples)
    resampled: Samples = soxr.resample(samples, rate, SAMPLE_RATE)
    return resampled if resampled.size else np.zeros(1, np.float32)


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
                raise AudioError(
                    f"AUDIO is cut short: its WAV header says {size} bytes of samples, {available} follow; send the whole file"
                )
            return
        position += 8 + size + size % 2
    raise AudioError(f"AUDIO is cut short: a WAV of {len(content)} bytes without a data chunk; send the whole file")
