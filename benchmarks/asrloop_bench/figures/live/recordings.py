"""Recordings that streams play: clips joined with pauses, and where somebody speaks in them."""

from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import FRAME, SpeechDetector
from asrloop_bench.figures.long_recordings import PAUSES, Joined, joined
from asrloop_bench.method.clips import Reference

SPEECH = 0.5
"""Least probability of a window with speech, by the detector on the clip alone."""


class Recording(NamedTuple):
    joined: Joined
    text: str
    pauses: Sequence[tuple[float, float]] = ()
    """Begin and end of each pause that was put into a clip, in seconds."""


def speech_in(part: Samples, detector: SpeechDetector) -> tuple[float, float] | None:
    """Return begin and end of the speech in a clip, in seconds, by the detector on the clip alone; None where it hears none."""
    heard = np.flatnonzero(detector(part)[0] >= SPEECH)
    if not heard.size:
        return None
    return int(heard[0]) * FRAME / SAMPLE_RATE, min(part.size, (int(heard[-1]) + 1) * FRAME) / SAMPLE_RATE


def recording(
    references: Sequence[Reference], detector: SpeechDetector, number: int, count: int, seconds: float
) -> Recording:
    """Join every ``count``-th clip from ``number`` on, again and again, with pauses, until there are ``seconds`` of them."""
    texts: list[str] = []
    parts: list[Samples] = []
    for one in cycle(references[number::count] or references):
        texts.append(one.text)
        parts.append(one.samples)
        if sum(part.size for part in parts) >= seconds * SAMPLE_RATE:
            break
    return Recording(with_speech(parts, PAUSES, detector), " ".join(texts))


def with_speech(parts: Sequence[Samples], pauses: Sequence[float], detector: SpeechDetector) -> Joined:
    """Join clips with pauses, and find the speech in each; a clip without is left out of ``speech``."""
    whole = joined(parts, pauses)
    speech = []
    for part, (begin, _) in zip(parts, whole.speech, strict=True):
        heard = speech_in(part, detector)
        if heard is not None:
            speech.append((begin + heard[0], begin + heard[1]))
    return Joined(whole.samples, speech)
