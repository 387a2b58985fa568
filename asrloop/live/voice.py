"""Listens to a stream: how probable speech is in each frame of 32 ms, as soon as it was heard."""

import numpy as np

from asrloop.audio import Samples
from asrloop.speech.detector import NOTHING, Detector
from asrloop.speech.gate import PEAK, SILENCE
from asrloop.speech.windows import AROUND, RANGE


class Voice:
    """Of one stream. As in :mod:`asrloop.speech.windows` quiet speakers are made louder, but by what was heard before only."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._heard = NOTHING
        self._peaks = np.zeros(AROUND, np.float32)
        """Of the frames before."""
        self._loudest = SILENCE / RANGE

    def __call__(self, frames: Samples) -> Samples:
        """``frames`` f32 [F, 512]; the probability of each, f32 [F]."""
        peaks = np.concatenate([self._peaks, np.abs(frames).max(axis=1)])
        self._loudest = max(self._loudest, float(peaks.max()))
        around = np.lib.stride_tricks.sliding_window_view(peaks, AROUND + 1).max(axis=1)
        gains = (PEAK / np.maximum(around, self._loudest * RANGE)).astype(np.float32)
        probabilities, self._heard = self._detector((frames * gains[:, None]).reshape(-1), self._heard)
        self._peaks = peaks[-AROUND:]
        return probabilities
