"""Checks, copies and resamples the samples that callers send."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from asrloop.errors import InvalidAudio, TooLong

SAMPLE_RATE = 16_000
LOWEST_RATE, HIGHEST_RATE = 8_000, 48_000
MAX_CHANNELS = 8

Samples = NDArray[np.float32]

LARGEST = 1_000.0
"""Samples are meant to lie in -1..1. Float recordings may go beyond, but not 60 dB: larger numbers are another format,
mostly 16-bit samples that were not divided, and the largest ones overflow in a filter or in a model."""

RESAMPLE_SECONDS = 1
"""Length of the blocks in which PCM is resampled."""


class LongAudio(NamedTuple):
    """Audio of any length that comes in blocks."""

    blocks: Iterator[Samples]
    """f32 [N] each, 16 kHz. May raise a RequestError instead of the next one."""

    seconds: float = 0.0
    """Length of all blocks; 0 when it is unknown."""

    close: Callable[[], None] = lambda: None
    """Stop the source, because no more will be read. May be called at any time, on any thread."""

    missing: Callable[[], float] = lambda: 0.0
    """Return the seconds that the source claims and does not have. Known when all blocks are read."""


def from_pcm(
    wav: NDArray[np.float32],
    lengths: NDArray[np.int32] | None,
    sample_rate: int,
    max_seconds: float,
    names: tuple[str, str] = ("WAV", "WAV_LENS"),
    setting: str = "audio.max_pcm_seconds",
) -> list[Samples]:
    """Check a batch of PCM and copy the valid part of each row; see :func:`resampled` for the rest.

    ``wav`` is f32 [B, N] at ``sample_rate`` Hz; ``lengths`` i32 [B, 1] says how many samples of each row are valid
    (1..N), None means all. ``names`` are those of the two tensors, for messages. Raises InvalidAudio, TooLong.
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
        check_duration(length / sample_rate, max_seconds, setting)
        check_finite(row[:length], name)
        rows.append(row[:length].copy())
    return rows


def from_int16(pcm: NDArray[np.int16]) -> Samples:
    """Convert 16-bit samples of any shape to f32 in -1..1."""
    return pcm.astype(np.float32) / np.float32(32_768)


def checked_rate(value: object) -> int:
    """Return the request parameter ``sample_rate`` as a number of Hz, 8000..48000. Raises InvalidAudio."""
    try:
        rate = int(value) if isinstance(value, (int, str)) or (isinstance(value, float) and value.is_integer()) else -1
    except ValueError:
        rate = -1
    if isinstance(value, bool) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InvalidAudio(
            f"sample_rate is {value!r:.80}: it must be a whole number of Hz between {LOWEST_RATE} and {HIGHEST_RATE}"
        )
    return rate


def resampled(samples: Samples, rate: int) -> Samples:
    """Resample ``samples``, f32 [N] at ``rate`` Hz, to 16 kHz; at least one sample is returned."""
    if rate == SAMPLE_RATE:
        return np.ascontiguousarray(samples)
    at_16k: Samples = soxr.resample(samples, rate, SAMPLE_RATE)
    return at_16k if at_16k.size else np.zeros(1, np.float32)


class Resampler:
    """Resamples blocks from ``rate`` Hz to 16 kHz. Those of 16 kHz are returned as they are."""

    def __init__(self, rate: int) -> None:
        self._stream = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def __call__(self, samples: Samples, *, last: bool) -> Samples:
        """Take the next ``samples``, f32 [N]; return f32 [M] at 16 kHz, with ``last`` all that is left."""
        if self._stream is None:
            return samples
        resampled: Samples = self._stream.resample_chunk(samples, last=last)
        return resampled


def long_audio(samples: Samples, rate: int) -> LongAudio:
    """Resample ``samples``, f32 [N] at ``rate`` Hz, to 16 kHz block by block."""
    return LongAudio(_blocks(samples, rate), samples.size / rate)


def _blocks(samples: Samples, rate: int) -> Iterator[Samples]:
    resample, size = Resampler(rate), RESAMPLE_SECONDS * rate
    for start in range(0, samples.size, size):
        yield resample(samples[start : start + size], last=start + size >= samples.size)


def check_duration(seconds: float, max_seconds: float, setting: str = "audio.max_seconds") -> None:
    """Raise TooLong for more than ``max_seconds``; ``setting`` is the name of that limit."""
    if seconds > max_seconds:
        raise TooLong(
            f"audio is {seconds:.2f} s long: the limit is {max_seconds:g} s ({setting}); send it in shorter pieces"
        )


def check_finite(samples: NDArray[np.float32], name: str, offset: int = 0) -> None:
    """Raise InvalidAudio for NaN, infinity and magnitudes above LARGEST; ``offset`` is the number of values before these."""
    # Both are NaN when any sample is, and NaN fails every comparison. The exact look is only for the message.
    if samples.size and not (samples.min() >= -LARGEST and samples.max() <= LARGEST):
        flat = samples.reshape(-1)
        first = int(np.argmin(np.abs(flat) <= LARGEST))
        place = f"{name} holds {flat[first]:g} at sample {offset + first}"
        if not np.isfinite(flat[first]):
            raise InvalidAudio(f"{place}: all samples must be finite numbers")
        raise InvalidAudio(f"{place}: the limit is {LARGEST:g}; send samples in -1..1, 16-bit ones divided by 32768")
