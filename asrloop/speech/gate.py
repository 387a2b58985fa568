"""Decides whether a recording has any speech, because models make up words for silence and noise."""

import numpy as np

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.speech.detector import FRAME, NOTHING, Detector

PEAK = 0.5
"""Audio is amplified until its loudest part has this magnitude, because the detector misses quiet speech."""

FIRST, BEFORE_LOUDEST = 3, 2
"""Frames that are checked first, and how many of them come before the loudest. They suffice in 93 of 100 utterances, and eight
would take twice as long."""

CHUNK = 16
"""Frames that go through the detector at once; the first with speech ends the search."""

USUAL = 0.75
"""Where a click hides quiet speech, this quantile of the frames' peaks decides the gain."""

HALF_SECOND = 8000
SILENCE = 2.0**-16
"""Half a step of 16-bit audio."""

MAINS_LAGS = (320, 800)
"""Samples after which the hum of mains repeats: one period of 50 Hz, three of 60 Hz."""

HUM_ONLY = 1e-3
"""Audio is only hum when less than this share of its energy is left without the hum: speech would be 30 dB below it."""


class SpeechGate:
    """Returns True when any frame of a recording is speech with at least the probability ``threshold``."""

    def __init__(self, detector: Detector, threshold: float) -> None:
        self._detector = detector
        self._threshold = threshold

    def __call__(self, samples: Samples) -> bool:
        """``samples`` are f32 [N], 16 kHz, N >= 1, at any level."""
        centred = samples - samples.mean()
        magnitudes = np.abs(centred)
        peak = int(magnitudes.argmax())
        loudest = float(magnitudes[peak])
        if loudest < SILENCE:
            return False
        start = max(0, peak // FRAME - BEFORE_LOUDEST) * FRAME
        first = centred[start : start + FIRST * FRAME]
        around = centred[max(0, start - HALF_SECOND) : start + HALF_SECOND]
        if is_hum(around) and is_hum(centred):
            return False
        return (
            self._heard_in(first, PEAK / loudest)
            or self._heard_in(centred, PEAK / loudest)
            or self._heard_beside_a_click(centred, magnitudes, loudest)
        )

    def _heard_beside_a_click(self, centred: Samples, magnitudes: Samples, loudest: float) -> bool:
        whole = magnitudes.size // FRAME
        peaks = magnitudes[: whole * FRAME].reshape(whole, FRAME).max(axis=1) if whole else magnitudes
        usual = float(np.quantile(peaks, USUAL))
        return SILENCE < usual < loudest / 2 and self._heard_in(centred, PEAK / usual)

    def _heard_in(self, samples: Samples, gain: float) -> bool:
        heard = NOTHING
        for start in range(0, samples.size, CHUNK * FRAME):
            chunk = np.clip(samples[start : start + CHUNK * FRAME] * np.float32(gain), -1, 1)
            probabilities, heard = self._detector(chunk, heard)
            if probabilities.max() >= self._threshold:
                return True
        return False


def is_hum(samples: Samples) -> bool:
    """Return True when ``samples``, f32 [N], repeat with the mains: its hum with harmonics sounds like a voice to the detector."""
    energy = float(np.dot(samples, samples))
    for lag in MAINS_LAGS:
        if samples.size >= 2 * lag:
            left = samples[lag:] - samples[:-lag]
            if float(np.dot(left, left)) < HUM_ONLY * energy:
                return True
    return False


def speech_gate(detector: Detector, settings: Settings) -> SpeechGate | None:
    """Return the gate; None when the settings turn it off."""
    threshold = settings.audio.speech_threshold
    return SpeechGate(detector, threshold) if threshold else None
