"""Sentences with pauses inside that were put there, so that it is known which ends of segments cut a sentence apart."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from asrloop_client import Word

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import SpeechDetector
from asrloop_bench.figures.live.playing import Played
from asrloop_bench.figures.live.recordings import Recording, speech_in, with_speech
from asrloop_bench.figures.long_recordings import NOISE

INSIDE, BETWEEN = (0.15, 0.8), (1.0, 2.5)
"""Bounds of pauses inside sentences and between them, in seconds."""

MOST = 2
"""Pauses that are put into a sentence."""

EDGE, APART = 0.3, 0.5
"""No pause is nearer to either end of the speech, or to another pause, in seconds."""

QUIET = 0.02
"""A pause is put into the quietest so many seconds between two words, where"""
AROUND = 0.06
"""the times of words may be wrong by this, in seconds."""

FADE = round(0.005 * SAMPLE_RATE)
"""Samples over which speech fades into a pause, and out of it."""

LATE = 0.1
"""Seconds of speech behind a pause that may be heard before a segment ends in it."""

_ENDS = (".", "!", "?")


class Sentence(NamedTuple):
    samples: Samples
    """f32 [N], 16 kHz."""

    text: str
    gaps: Sequence[int]
    """Samples at which a pause may be put, in order."""


def sentence(samples: Samples, text: str, words: Sequence[Word], detector: SpeechDetector) -> Sentence:
    """Find where a clip may pause: the quieter half of the gaps between its words, but not behind the end of a sentence."""
    begin, end = speech_in(samples, detector) or (0.0, 0.0)
    found = []
    for one, other in pairwise(words):
        level, at = _quietest(samples, one, other)
        if begin + EDGE <= at / SAMPLE_RATE <= end - EDGE and not one.text.rstrip("\"')").endswith(_ENDS):
            found.append((level, at))
    return Sentence(samples, text, sorted(at for _, at in sorted(found)[: -(-len(found) // 2)]))


def _quietest(samples: Samples, one: Word, other: Word) -> tuple[float, int]:
    """Return the energy and the middle of the quietest moment between two words, but not beyond the middle of either."""
    begin = max((one.start + one.end) / 2, one.end - AROUND)
    end = max(begin + QUIET, min((other.start + other.end) / 2, other.start + AROUND))
    size = round(QUIET * SAMPLE_RATE)
    starts = np.arange(round(begin * SAMPLE_RATE), max(1, min(round(end * SAMPLE_RATE), samples.size) - size + 1), FADE)
    if not starts.size:
        return float("inf"), 0
    energies = [float(np.square(samples[start : start + size]).sum()) for start in starts]
    quietest = int(np.argmin(energies))
    return energies[quietest], int(starts[quietest]) + size // 2


def paused(given: Sentence, rng: np.random.Generator) -> tuple[Samples, list[tuple[float, float]]]:
    """Put one or two pauses of faint noise into a sentence; return it with their begins and ends, in seconds."""
    chosen: list[int] = []
    for at in rng.permutation(given.gaps).tolist():
        if all(abs(at - other) >= APART * SAMPLE_RATE for other in chosen):
            chosen.append(at)
    cuts = sorted(chosen[: rng.integers(1, MOST, endpoint=True)])
    fade = np.linspace(0, 1, FADE, endpoint=False, dtype=np.float32)
    pieces: list[Samples] = []
    pauses = []
    size = 0
    for before, cut in pairwise([0, *cuts]):
        noise = rng.normal(0, NOISE, round(rng.uniform(*INSIDE) * SAMPLE_RATE)).astype(np.float32)
        noise[:FADE] += given.samples[cut : cut + FADE] * fade[::-1]
        noise[-FADE:] += given.samples[cut - FADE : cut] * fade
        pieces += [given.samples[before:cut], noise]
        size += cut - before + noise.size
        pauses.append(((size - noise.size) / SAMPLE_RATE, size / SAMPLE_RATE))
    return np.concatenate([*pieces, given.samples[cuts[-1] if cuts else 0 :]]), pauses


def recording(
    sentences: Iterator[Sentence], seconds: float, rng: np.random.Generator, detector: SpeechDetector
) -> Recording:
    """Join the next sentences, with pauses inside and between them, until there are ``seconds`` of them."""
    texts: list[str] = []
    parts: list[Samples] = []
    inside: list[list[tuple[float, float]]] = []
    while sum(part.size for part in parts) < seconds * SAMPLE_RATE:
        one = next(sentences)
        part, pauses = paused(one, rng)
        texts.append(one.text)
        parts.append(part)
        inside.append(pauses)
    between = rng.uniform(*BETWEEN, len(parts)).tolist()
    whole = with_speech(parts, between, detector)
    begins = np.cumsum([0, *(part.size + int(pause * SAMPLE_RATE) for part, pause in zip(parts, between, strict=True))])
    all_pauses = [
        (at / SAMPLE_RATE + begin, at / SAMPLE_RATE + end)
        for at, pauses in zip(begins.tolist(), inside, strict=False)
        for begin, end in pauses
    ]
    return Recording(whole, " ".join(texts), all_pauses)


class Cuts(NamedTuple):
    """Segments that ended while a sentence went on."""

    sentences: int
    """Sentences in which one ended at a pause that was put there."""

    of_sentences: int
    """Sentences with such a pause."""

    pauses: int
    of_pauses: int
    elsewhere: int
    """Ends inside a clip that lie in no such pause: its own pauses, or a limit of length."""


def cuts_in(played: Played, recording: Recording) -> Cuts:
    """Count where the segments of a stream ended inside of the speech of a clip."""
    heard = [event.heard for _, event in played.events if event.final and event.stable.strip()]
    sentences = of_sentences = pauses = of_pauses = elsewhere = 0
    for begin, end in recording.joined.speech:
        inside = [one for one in recording.pauses if begin < one[0] < one[1] < end]
        ends = [at for at in heard if begin < at < end]
        cut = [any(a < at <= b + LATE for at in ends) for a, b in inside]
        sentences, of_sentences = sentences + any(cut), of_sentences + bool(inside)
        pauses, of_pauses = pauses + sum(cut), of_pauses + len(inside)
        elsewhere += sum(not any(a < at <= b + LATE for a, b in inside) for at in ends)
    return Cuts(sentences, of_sentences, pauses, of_pauses, elsewhere)
