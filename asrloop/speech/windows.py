"""Cuts a recording into windows of speech while it comes in: at long pauses, else at the best pause that a window offers.

Policy on how probable speech is in each frame of 32 ms. Holds no more audio than one window and half a second ahead of it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import FRAME, NOTHING, Detector
from asrloop.speech.detector import frames_in as _frames
from asrloop.speech.gate import PEAK, SILENCE, is_hum

ON, OFF = 0.5, 0.2
"""Speech is a run of frames that are at least this probable (``OFF``), one of which is at least that probable (``ON``)."""

LONG_PAUSE = _frames(1.0)
"""A pause of that length ends a window, however short that is. What is shorter stays inside, where it helps the model."""

LEAST_PAUSE = 2
"""Frames of the shortest pause that is better to cut at than a hard cut."""

PAD = _frames(0.32)
"""Audio that is kept before and behind the speech of a window, at most half the pause."""

OVERLAP = _frames(3.0)
"""How far a window goes back behind a hard cut. A model hears the last words before a cut worst: with 1 s a fifth of all words
around it were lost, with 3 s next to none."""

AROUND = _frames(0.5)
"""The loudest frame so near decides the gain with which a frame is listened to: a quiet speaker after a loud one is heard."""

RANGE = 10 ** (-50 / 20)
"""Of the loudest frame so far; below it nothing is made louder."""


class Window(NamedTuple):
    """A piece of a recording that is decoded by itself."""

    start: int
    """Its first sample, counted from the start of the recording."""

    samples: Samples
    """f32 [N], 16 kHz."""

    overlap: int = 0
    """How many of its first samples the window before has as well."""


class Cutter:
    """One recording's. ``push`` and ``finish`` return the windows that are complete, in order; only pauses lie between them."""

    def __init__(self, detector: Detector, target_seconds: float, max_seconds: float) -> None:
        """Where there is no long pause the longest one from ``target_seconds`` to ``max_seconds`` is taken; if there is none
        the longest from half the target on; and if there is none at all, the cut is hard."""
        self._detector = detector
        self._heard = NOTHING
        self._target = _frames(target_seconds)
        self._longest = int(max_seconds * SAMPLE_RATE) // FRAME - 2 * PAD
        self._audio = np.zeros(0, np.float32)
        """What is still needed; its first sample is ``_start``."""
        self._start = 0
        self._overlap = 0
        self._peaks = np.zeros(0, np.float32)
        """Greatest magnitude of each whole frame of ``_audio``."""
        self._probabilities = np.zeros(0, np.float32)
        """Of the frames that were listened to: all but those whose surroundings are not complete."""
        self._loudest = SILENCE / RANGE

    def push(self, samples: Samples) -> list[Window]:
        """Take the next ``samples``, f32 [N], 16 kHz."""
        self._audio = np.concatenate([self._audio, samples])
        self._listen(self._audio.size // FRAME - AROUND)
        return self._windows(last=False)

    def finish(self) -> list[Window]:
        """There is no more audio."""
        self._audio = np.pad(self._audio, (0, -self._audio.size % FRAME))
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
        """The next window, taken out of the audio; None when more must be heard, or nothing is left."""
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
        return Window(self._start + begin * FRAME, self._audio[begin * FRAME : end * FRAME].copy(), overlap)

    def _drop(self, frames: int) -> None:
        self._audio = self._audio[frames * FRAME :]
        self._peaks = self._peaks[frames:]
        self._probabilities = self._probabilities[frames:]
        self._start += frames * FRAME


def _speech(probabilities: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Runs of frames with speech: the first frame of each, and the first behind it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], probabilities >= OFF, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2).tolist()
    return [(begin, end) for begin, end in runs if probabilities[begin:end].max() >= ON]
