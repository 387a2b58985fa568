"""Gives the probability of speech of each 32 ms frame of a stream as soon as it arrives."""

import numpy as np

from asrloop.audio import Samples
from asrloop.speech.detector import NOTHING, Detector
from asrloop.speech.gate import PEAK, SILENCE
from asrloop.speech.windows import AROUND, RANGE


class Voice:
    """Detects speech in one stream. As in :mod:`asrloop.speech.windows` quiet speech is amplified, by the audio before it only."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._heard = NOTHING
        self._peaks = np.zeros(AROUND, np.float32)
        """Peaks of the previous frames."""
        self._loudest = SILENCE / RANGE

    def __call__(self, frames: Samples) -> Samples:
        """Return the probability of speech in each of ``frames`` (f32 [F, 512]), f32 [F]."""
        peaks = np.concatenate([self._peaks, np.abs(frames).max(axis=1)])
        # Each frame sees the loudest so far, not the loudest of its chunk: chunks of any length give the same.
        loudest = np.maximum(np.maximum.accumulate(peaks)[AROUND:], self._loudest)
        self._loudest = float(loudest[-1])
        around = np.lib.stride_tricks.sliding_window_view(peaks, AROUND + 1).max(axis=1)
        gains = (PEAK / np.maximum(around, loudest * RANGE)).astype(np.float32)
        probabilities, self._heard = self._detector((frames * gains[:, None]).reshape(-1), self._heard)
        self._peaks = peaks[-AROUND:]
        return probabilities
