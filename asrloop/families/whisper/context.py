"""How much audio the encoder is given: the speech and a little silence, or, once more, the 30 s that it was trained with.

A short context costs what the speech costs and loses no word, but the decoder often fails to stop: it looks for the end of the
audio where no frames are. So frames of silence follow, which were encoded once, when the model was made. See docs/whisper.md.
"""

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.onnx_files.sessions import Tensors

SAMPLES_PER_FRAME = 320
"""20 ms."""

SILENCE_SECONDS = 1.0
"""Silence that is encoded with the speech."""

SILENT_FRAMES = 100
"""Frames of silence behind that, which are not encoded with it."""


def context_samples(samples: int, most_frames: int, *, whole: bool = False) -> int:
    """Return how many samples to encode, speech and silence together, for ``samples`` of speech."""
    frames = -(-samples // SAMPLES_PER_FRAME) + round(SILENCE_SECONDS * SAMPLE_RATE) // SAMPLES_PER_FRAME
    return (most_frames if whole else min(frames, most_frames)) * SAMPLES_PER_FRAME


def silent_audio(frames: int) -> NDArray[np.float32]:
    """Return ``frames`` of silence: noise that nobody hears."""
    return np.random.default_rng(0).standard_normal(frames * SAMPLES_PER_FRAME, np.float32) * np.float32(1e-5)


def with_silence(cross: Tensors, silence: Tensors) -> Tensors:
    """Return cross K/V, [1, heads, frames, size] each, followed by SILENT_FRAMES of ``silence``, which are those of the frames that
    stand there in silent audio of full length."""
    frames = next(iter(cross.values())).shape[2]
    return {
        name: np.concatenate([values, silence[name][:, :, frames : frames + SILENT_FRAMES]], axis=2)
        for name, values in cross.items()
    }
