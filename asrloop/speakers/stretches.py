"""Cuts a window into stretches: one voice without a pause. A stretch is what gets a speaker, because the network that finds voices
may take two people who follow each other for one, but rarely without a pause between them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speakers.networks import FIRST, FRAME, VOICES

_GAP = 3
"""A voice that is absent for fewer frames of 17 ms goes on."""

_DEPTH, _PAUSE = 30.0, 8
"""A pause is this much quieter, in dB, than the voice's loud moments, for at least so many steps of 10 ms."""

_HOP = SAMPLE_RATE // 100

_LOUD = 90
"""Percentile of the levels that counts as loud."""

_LEAST = 6
"""No part beside a pause is shorter, in frames: 0.1 s."""


class Stretch(NamedTuple):
    voice: int
    """Number of the voice in its window."""

    start: float
    """Seconds from the window's begin, as ``end``."""

    end: float
    alone: tuple[tuple[float, float], ...]
    """Where nobody else speaks, in seconds of the window; the longest first."""

    @property
    def longest_alone(self) -> float:
        """Seconds of the longest of these; 0 without any."""
        return self.alone[0][1] - self.alone[0][0] if self.alone else 0.0


def stretches(active: NDArray[np.bool_], samples: Samples) -> Iterator[Stretch]:
    """Yield the stretches of a window, in order for each voice. ``active`` is bool [frames, 3], ``samples`` f32 [160000]."""
    alone = active.sum(axis=1) == 1
    for voice in range(VOICES):
        for first, last in _runs(_bridged(active[:, voice])):
            for begin, end in _between_pauses(samples, first, last):
                parts = [
                    (_seconds(begin + one), _seconds(begin + other))
                    for one, other in _runs(alone[begin:end] & active[begin:end, voice])
                ]
                parts.sort(key=lambda part: part[0] - part[1])
                yield Stretch(voice, _seconds(begin), _seconds(end), tuple(parts))


def _seconds(frame: int) -> float:
    return FIRST + frame * FRAME


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return begin and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


def _bridged(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    filled = flags.copy()
    for begin, end in _runs(~flags):
        if begin > 0 and end < flags.size and end - begin < _GAP:
            filled[begin:end] = True
    return filled


def _between_pauses(samples: Samples, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a run of frames between its pauses."""
    at = first
    for begin, end in _pauses(samples, first, last):
        if begin - at >= _LEAST and last - end >= _LEAST:
            yield at, begin
            at = end
    yield at, last


def _pauses(samples: Samples, first: int, last: int) -> Iterator[tuple[int, int]]:
    heard = samples[int(_seconds(first) * SAMPLE_RATE) : int(_seconds(last) * SAMPLE_RATE)]
    steps = heard.size // _HOP
    if not steps:
        return
    levels = 10 * np.log10((heard[: steps * _HOP].reshape(steps, _HOP) ** 2).mean(axis=1) + 1e-10)
    frames = _HOP / SAMPLE_RATE / FRAME
    for begin, end in _runs(levels < np.percentile(levels, _LOUD) - _DEPTH):
        if begin and end < steps and end - begin >= _PAUSE:
            yield first + int(begin * frames), first + int(np.ceil(end * frames))
