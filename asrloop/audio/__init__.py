"""Turns files and PCM into clean samples: f32 [N], mono, 16 kHz, finite. Raises InvalidAudio for anything else."""

from asrloop.audio.files import blocks, from_file, opened
from asrloop.audio.pcm import (
    MAX_CHANNELS,
    SAMPLE_RATE,
    LongAudio,
    Resampler,
    Samples,
    checked_rate,
    from_int16,
    from_pcm,
    long_audio,
    resampled,
)

__all__ = [
    "MAX_CHANNELS",
    "SAMPLE_RATE",
    "LongAudio",
    "Resampler",
    "Samples",
    "blocks",
    "checked_rate",
    "from_file",
    "from_int16",
    "from_pcm",
    "long_audio",
    "opened",
    "resampled",
]
