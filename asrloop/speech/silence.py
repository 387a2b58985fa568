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

_SURE = 13.0
"""What is no more than so many dB below the loud parts is speech. The detector is not asked: that halves its work."""

_BEFORE = 2
"""Frames that it hears before those that it is asked about."""

_FADING = 8
"""Frames behind such speech in which a word may fade. The detector is not asked there: it hears words end too early."""


def quiet_steps(samples: Samples, detector: Detector) -> NDArray[np.bool_]:
    """Return for each whole step of ``samples``, f32 [N], 16 kHz, if it has no speech."""
    steps = samples.size // STEP
    if not steps:
        return np.zeros(0, np.bool_)
    centred = samples - samples.mean()
    frames = centred[: steps * STEP].reshape(steps, STEP)
    energies = np.convolve(np.einsum("ij,ij->i", frames, frames), np.ones(_AROUND) / _AROUND)[1:-1]
    levels = 10 * np.log10(energies / STEP + 1e-10)
    loud, floor = np.percentile(levels, (_LOUD, _FLOOR))
    quiet = np.asarray(levels < max(loud - _BELOW_LOUD, floor + _ABOVE_FLOOR))
    return quiet | _unheard(centred, detector, quiet, levels < loud - _SURE)


def _unheard(
    samples: Samples, detector: Detector, quiet: NDArray[np.bool_], unsure: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the steps in which the detector hears no speech, of those that are ``unsure`` by their level and lie at a pause or at
    an end. All stretches go through it at once, one behind the other."""
    each = FRAME // STEP
    count = -(-quiet.size // each)
    padding = (0, count * each - quiet.size)
    steps = [np.pad(one, padding, constant_values=True).reshape(count, each) for one in (quiet, unsure)]
    asked, heard = np.zeros((2, count), np.bool_)
    edges = np.flatnonzero(np.diff(steps[1].all(axis=1), prepend=False, append=False)).reshape(-1, 2)
    for begin, end in edges.tolist():
        inside = steps[0][begin:end]
        first = begin + _FADING if begin else 0
        if first < end and (inside.any() or begin == 0 or end == count) and not inside.all():
            asked[first:end] = heard[max(0, first - _BEFORE) : end] = True
    loudest = float(np.abs(samples).max())
    if not heard.any() or not loudest:
        return np.zeros(quiet.size, np.bool_)
    audio = np.zeros((count, FRAME), np.float32)
    audio.reshape(-1)[: samples.size] = samples[: count * FRAME]
    probabilities, _ = detector((audio[heard] * np.float32(PEAK / loudest)).reshape(-1), NOTHING)
    unheard = np.zeros(count, np.bool_)
    unheard[heard] = probabilities < _SPEECH
    return np.repeat(unheard & asked, each)[: quiet.size]
