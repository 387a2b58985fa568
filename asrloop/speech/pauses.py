"""Finds the speech in audio that fits one window: where it begins and ends, and the parts of it where a long pause lies between.

The level of the audio finds what may be a long pause, at next to no cost. Only then the detector listens, and cuts as it cuts
longer recordings. Audio without a long pause stays whole.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import FRAME
from asrloop.speech.windows import LONG_PAUSE, PAD, Cutter, Window

CLICK = 3
"""Frames that may be louder than the speech, such as those of a click."""

QUIET = 10 ** (-15 / 10)
"""A pause has no frame with more than this share of the loudest energy. The detector decides among those."""

FAINT = 10 ** (-25 / 10)
"""Quieter frames before and behind all others do not count as speech."""


class Spoken(NamedTuple):
    """The speech in some audio."""

    start: float
    """As ``end`` in seconds from the start of the audio."""

    end: float
    parts: list[Window]
    """Parts with long pauses around them; none for audio that stays whole."""


def spoken(samples: Samples, cutter: Callable[[], Cutter]) -> Spoken:
    """Find the speech in ``samples``, f32 [N], 16 kHz, N >= 1. ``cutter`` makes the cutter that listens for pauses."""
    whole, seconds = samples.size // FRAME, samples.size / SAMPLE_RATE
    if whole <= CLICK:
        return Spoken(0.0, seconds, [])
    frames = (samples[: whole * FRAME] - samples.mean()).reshape(whole, FRAME)
    energies = np.einsum("ij,ij->i", frames, frames)
    loudest = np.partition(energies, -1 - CLICK)[-1 - CLICK]
    if whole > LONG_PAUSE and _longest_run(energies < loudest * QUIET) >= LONG_PAUSE:
        parts = _parts(samples, cutter())
        if parts:
            return Spoken(parts[0].start / SAMPLE_RATE, _end(parts[-1]) / SAMPLE_RATE, parts)
    heard = np.flatnonzero(energies >= loudest * FAINT)
    start, end = max(0, int(heard[0]) - PAD), int(heard[-1]) + 1 + PAD
    return Spoken(start * FRAME / SAMPLE_RATE, min(seconds, end * FRAME / SAMPLE_RATE), [])


def _parts(samples: Samples, cutter: Cutter) -> list[Window]:
    """Return the windows of speech; none where no long pause lies before, between or behind them."""
    windows = [*cutter.push(samples), *cutter.finish()]
    edges = [0, *(edge for window in windows for edge in (window.start, _end(window))), samples.size]
    pauses = [begin - end for end, begin in zip(edges[::2], edges[1::2], strict=True)]
    # A window keeps PAD of the pause on each of its sides.
    kept = [PAD, *[2 * PAD] * (len(windows) - 1), PAD]
    is_long = [pause + pad * FRAME >= LONG_PAUSE * FRAME for pause, pad in zip(pauses, kept, strict=False)]
    return windows if windows and any(is_long) else []


def _end(window: Window) -> int:
    return window.start + window.samples.size


def _longest_run(holds: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
