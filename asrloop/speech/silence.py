"""Says which frames of an utterance have no speech, for the times of its words: by their level, and by the detector.

The level alone takes breath and noise for speech; the detector alone is 32 ms coarse and hears a word go on for a little.
"""

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import FRAME, NOTHING, Detector
from asrloop.speech.gate import PEAK

STEP = 128
"""Samples from one frame to the next, 8 ms."""

STEP_SECONDS = STEP / SAMPLE_RATE
_AROUND = 3
"""Steps over which the level is taken."""

_LOUD, _BELOW_LOUD = 95, 28.0
"""A frame is quiet when it is so many dB below the level that this per cent of the frames do not reach,"""

_FLOOR, _ABOVE_FLOOR = 5, 4.0
"""or hardly above the one that only this per cent do not reach,"""

_SPEECH = 0.15
"""or when the detector's probability of speech is lower than this."""


def quiet_steps(samples: Samples, detector: Detector) -> NDArray[np.bool_]:
    """Return for each whole step of ``samples``, f32 [N], 16 kHz, if it has no speech."""
    steps = samples.size // STEP
    if not steps:
        return np.zeros(0, np.bool_)
    centred = samples - samples.mean()
    frames = centred[: steps * STEP].reshape(steps, STEP)
    energies = np.convolve(np.einsum("ij,ij->i", frames, frames), np.ones(_AROUND) / _AROUND, "same")
    levels = 10 * np.log10(energies / STEP + 1e-10)
    loud, floor = np.percentile(levels, (_LOUD, _FLOOR))
    return np.asarray((levels < max(loud - _BELOW_LOUD, floor + _ABOVE_FLOOR)) | _unheard(centred, detector, steps))


def _unheard(samples: Samples, detector: Detector, steps: int) -> NDArray[np.bool_]:
    loudest = float(np.abs(samples).max())
    if not loudest:
        return np.ones(steps, np.bool_)
    probabilities, _ = detector(samples * np.float32(PEAK / loudest), NOTHING)
    return np.asarray(probabilities[np.arange(steps) * STEP // FRAME] < _SPEECH)
