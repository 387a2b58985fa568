"""Finds the speech in audio that fits one window: where it begins and ends, and the parts of it where a long pause lies between.

The level of the audio finds what may be a long pause, at next to no cost. Only there the detector listens, as it does in longer
recordings. Audio without a long pause stays whole.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import FRAME
from asrloop.speech.windows import AROUND, LONG_PAUSE, PAD, Cutter, Window

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
    quiet = _long_runs(energies < loudest * QUIET)
    pauses = sorted(pause for run in quiet for pause in _pauses(samples, run, cutter()))
    parts, begin = [], 0
    for left, right in [*pauses, (samples.size, samples.size)] if pauses else []:
        if left > begin:
            parts.append(Window(begin, samples[begin:left].copy()))
        begin = max(begin, right)
    # Each end by the level of its own part: another may be much louder.
    first, last = (parts[0], parts[-1]) if parts else [Window(0, samples)] * 2
    start, end = _heard(energies, first)[0], min(samples.size, _heard(energies, last)[1])
    return Spoken(max(start, first.start) / SAMPLE_RATE, min(end, _end(last)) / SAMPLE_RATE, parts)


def _heard(energies: NDArray[np.float32], part: Window) -> tuple[int, int]:
    """Return the samples between which a part has frames that are not faint, and PAD around them."""
    begin = part.start // FRAME
    mine = energies[begin : begin + max(1, part.samples.size // FRAME)]
    loudest = np.partition(mine, -1 - CLICK)[-1 - CLICK] if mine.size > CLICK else mine.max()
    heard = np.flatnonzero(mine >= loudest * FAINT)
    return max(0, begin + int(heard[0]) - PAD) * FRAME, (begin + int(heard[-1]) + 1 + PAD) * FRAME


def _pauses(samples: Samples, run: tuple[int, int], cutter: Cutter) -> list[tuple[int, int]]:
    """Return what may be left out of a run of quiet frames, from a sample to another: the detector hears no speech there for long.

    It listens to the run and half a second around it only, so that audio with one pause costs little more than without.
    """
    first = max(0, run[0] - AROUND) * FRAME
    near = samples[first : (run[1] + AROUND) * FRAME]
    windows = [*cutter.push(near), *cutter.finish()]
    if not windows:  # what is around it is no speech either: it is kept
        return [((run[0] + PAD) * FRAME if run[0] else 0, (run[1] - PAD) * FRAME)]
    edges = [0, *(edge for window in windows for edge in (window.start, _end(window))), near.size]
    # A window keeps PAD of the pause on each of its sides.
    kept = [PAD, *[2 * PAD] * (len(windows) - 1), PAD]
    gaps = zip(edges[::2], edges[1::2], kept, strict=True)
    return [(first + begin, first + end) for begin, end, pad in gaps if end - begin + pad * FRAME >= LONG_PAUSE * FRAME]


def _end(window: Window) -> int:
    return window.start + window.samples.size


def _long_runs(quiet: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return runs of at least LONG_PAUSE frames: the first frame of each, and the first behind it."""
    if quiet.size <= LONG_PAUSE:
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8))).reshape(-1, 2)
    return [(begin, end) for begin, end in edges.tolist() if end - begin >= LONG_PAUSE]
