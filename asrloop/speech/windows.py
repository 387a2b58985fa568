"""Cuts a recording into windows of speech as it arrives: at long pauses, else at the best pause within the longest window.

Decides by the probability of speech in each frame of 32 ms. Holds no more audio than one window and half a second ahead of it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import FRAME, NOTHING, Detector
from asrloop.speech.detector import frames_in as _frames
from asrloop.speech.gate import PEAK, SILENCE, is_hum

ON, OFF = 0.5, 0.2
"""Speech is a run of frames with a probability of at least OFF, one of them at least ON."""

LONG_PAUSE = _frames(1.0)
"""A pause of this length ends a window, however short the window is. Shorter pauses stay inside, where they help the model."""

LEAST_PAUSE = 2
"""Shortest pause, in frames, that is a better place to cut than the middle of speech."""

PAD = _frames(0.32)
"""Frames that are kept before and behind the speech of a window, at most half the pause."""

OVERLAP = _frames(3.0)
"""Frames before a hard cut that the next window repeats. Models hear the last words before a cut worst: with 1 s a fifth of the
words around it were lost, with 3 s next to none."""

AROUND = _frames(0.5)
"""The gain of a frame follows the loudest frame within this many, so that a quiet speaker after a loud one is heard."""

RANGE = 10 ** (-50 / 20)
"""Share of the loudest peak so far. Quieter frames get no more gain than frames of this level."""


class Window(NamedTuple):
    """Part of a recording that is decoded on its own."""

    start: int
    """Index of its first sample in the recording."""

    samples: Samples
    """f32 [N], 16 kHz."""

    overlap: int = 0
    """Number of its first samples that the previous window has as well."""

    filling: int = 0
    """Number of its last samples that lie beyond the recording: its last frame is filled up."""


class Cutter:
    """Cuts one recording. ``push`` and ``finish`` return the windows that are complete, in order; only pauses lie between them."""

    def __init__(self, detector: Detector, target_seconds: float, max_seconds: float) -> None:
        """Without a long pause, cut at the longest pause between ``target_seconds`` and ``max_seconds``, else at the longest from
        half the target on, else hard at ``max_seconds``."""
        self._detector = detector
        self._heard = NOTHING
        self._target = _frames(target_seconds)
        self._longest = int(max_seconds * SAMPLE_RATE) // FRAME - 2 * PAD
        self._audio = np.zeros(0, np.float32)
        """Samples that are still needed; ``_start`` is the index of the first in the recording."""
        self._start = 0
        self._overlap = self._filling = 0
        self._peaks = np.zeros(0, np.float32)
        """Greatest magnitude of each whole frame of ``_audio``."""
        self._probabilities = np.zeros(0, np.float32)
        """Probability of speech in each frame, up to the last AROUND frames, whose gain is not known yet."""
        self._loudest = SILENCE / RANGE

    def push(self, samples: Samples) -> list[Window]:
        """Take the next ``samples``, f32 [N], 16 kHz."""
        self._audio = np.concatenate([self._audio, samples])
        self._listen(self._audio.size // FRAME - AROUND)
        return self._windows(last=False)

    def finish(self) -> list[Window]:
        """Return the last windows."""
        self._filling = -self._audio.size % FRAME
        self._audio = np.pad(self._audio, (0, self._filling))
        self._listen(self._audio.size // FRAME)
        return self._windows(last=True)

    def _listen(self, until: int) -> None:
        """Find the probabilities of the frames before ``until``."""
        whole = self._audio.size // FRAME
        new = self._audio[self._peaks.size * FRAME : whole * FRAME].reshape(-1, FRAME)
        self._peaks = np.concatenate([self._peaks, np.abs(new).max(axis=1)])
        known = self._probabilities.size
        if until <= known:
            return
        self._loudest = max(self._loudest, float(self._peaks[known:].max()))
        around = np.lib.stride_tricks.sliding_window_view(np.pad(self._peaks, AROUND), 2 * AROUND + 1).max(axis=1)
        gains = PEAK / np.maximum(around[known:until], self._loudest * RANGE)
        audio = self._audio[known * FRAME : until * FRAME].reshape(-1, FRAME) * gains[:, None].astype(np.float32)
        probabilities, self._heard = self._detector(audio.reshape(-1), self._heard)
        self._probabilities = np.concatenate([self._probabilities, probabilities])

    def _windows(self, *, last: bool) -> list[Window]:
        windows = []
        while (window := self._next(last=last)) is not None:
            if not is_hum(window.samples):
                windows.append(window)
        return windows

    def _next(self, *, last: bool) -> Window | None:
        """Take the next window out of the audio; None when more audio is needed or nothing is left."""
        known = self._probabilities.size
        speech = _speech(self._probabilities)
        if not speech:
            self._drop(known if last else max(0, known - PAD))
            return None
        first = speech[0][0]
        behind = [begin for begin, _ in speech[1:]]
        pauses = [(end, begin) for (_, end), begin in zip(speech, [*behind, known], strict=True)]
        for pause in pauses:
            begin, end = pause
            if begin - first > self._longest:
                break
            if end - begin >= LONG_PAUSE or (last and end == known):
                return self._cut(first, pause)
        if known - first <= self._longest:
            return None
        earlier = [
            (end - begin, begin, end)
            for begin, end in pauses
            if begin - first <= self._longest and end - begin >= LEAST_PAUSE
        ]
        for earliest in (self._target, self._target // 2):
            if found := [pause for pause in earlier if pause[1] - first >= earliest]:
                return self._cut(first, max(found)[1:])
        return self._cut_hard(first)

    def _cut(self, first: int, pause: tuple[int, int]) -> Window:
        begin, end = pause
        half = (end - begin) // 2
        window = self._window(first, begin + min(PAD, half))
        self._drop(end - min(PAD, end - begin - half))
        self._overlap = 0
        return window

    def _cut_hard(self, first: int) -> Window:
        cut = first + self._longest
        window = self._window(first, cut)
        self._drop(cut - OVERLAP)
        self._overlap = OVERLAP * FRAME
        return window

    def _window(self, first: int, end: int) -> Window:
        begin = max(0, first - PAD)
        overlap = max(0, self._overlap - begin * FRAME)
        samples = self._audio[begin * FRAME : end * FRAME].copy()
        filling = max(0, begin * FRAME + samples.size - (self._audio.size - self._filling))
        return Window(self._start + begin * FRAME, samples, overlap, filling)

    def _drop(self, frames: int) -> None:
        self._audio = self._audio[frames * FRAME :]
        self._peaks = self._peaks[frames:]
        self._probabilities = self._probabilities[frames:]
        self._start += frames * FRAME


def _speech(probabilities: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Return runs of frames with speech: the first frame of each, and the first behind it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], probabilities >= OFF, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2).tolist()
    return [(begin, end) for begin, end in runs if probabilities[begin:end].max() >= ON]
