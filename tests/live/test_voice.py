"""The detector's amplifier: what a frame gets does not depend on the chunk it came in."""

import numpy as np

from asrloop.audio import Samples
from asrloop.live.voice import Voice
from asrloop.speech.detector import FRAME, Heard


def peaks(samples: Samples, before: Heard) -> tuple[Samples, Heard]:
    """A detector that gives the peak of each amplified frame."""
    return np.abs(samples.reshape(-1, FRAME)).max(axis=1), before


def test_chunks_of_any_length_give_the_same() -> None:
    loudness = np.geomspace(1e-4, 0.9, 400, dtype=np.float32)  # what comes later is much louder
    frames = loudness[:, None] * np.ones((1, FRAME), np.float32)
    whole, voice = Voice(peaks)(frames), Voice(peaks)
    parts = np.concatenate([voice(frames[at : at + 3]) for at in range(0, 400, 3)])
    np.testing.assert_array_equal(parts, whole)
