"""Decides whether there is speech in a recording at all: models make words of silence and noise."""

import numpy as np

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.speech.detector import FRAME, NOTHING, Detector

PEAK = 0.5
"""The detector hears quiet speech well only when it is made louder: what decides the gain is brought to this magnitude."""

FIRST, BEFORE_LOUDEST = 3, 2
"""Windows that are listened to first, and how many of them come before the loudest. In 93 of 100 utterances they suffice, and
eight would take twice as long."""

CHUNK = 16
"""Windows between two looks at whether speech was found."""

USUAL = 0.75
"""Where a click hides quiet speech, the magnitude that so many of the windows stay under decides the gain."""

HALF_SECOND = 8000
SILENCE = 2.0**-16
"""Half a step of 16-bit audio."""


MAINS_LAGS = (320, 800)
"""Samples after which the hum of mains repeats: one period of 50 Hz, three of 60 Hz."""

HUM_ONLY = 1e-3
"""Where so little of the energy is left after hum is taken away, there was nothing else: any speech would be 30 dB below it."""


class SpeechGate:
    """Whether any window of a recording is speech with at least the probability ``threshold``."""

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
    """Whether ``samples``, f32 [N], are the same again after a period of mains: with its harmonics it sounds like a voice."""
    energy = float(np.dot(samples, samples))
    for lag in MAINS_LAGS:
        if samples.size >= 2 * lag:
            left = samples[lag:] - samples[:-lag]
            if float(np.dot(left, left)) < HUM_ONLY * energy:
                return True
    return False


def speech_gate(detector: Detector, settings: Settings) -> SpeechGate | None:
    """The gate; None when the settings say that everything is decoded."""
    threshold = settings.audio.speech_threshold
    return SpeechGate(detector, threshold) if threshold else None
