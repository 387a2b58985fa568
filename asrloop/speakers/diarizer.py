"""Who spoke when in one recording: hears it piece by piece, and says at its end how many speakers there are and when each spoke.

Windows of 10 s, cut into stretches of one voice without a pause; an embedding for each that is long enough; groups of these are the
speakers; then the best speaker for each stretch, whose neighbours of the same voice count as a hint.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.engine.attribution import SpeakerTurn
from asrloop.speakers.clusters import Clusters, Vectors, unit
from asrloop.speakers.networks import SAMPLES, SIZE, Networks, padded
from asrloop.speakers.stretches import Stretch, stretches

BATCH = 4
"""Windows that go through the first network at once: a third faster than one by one."""

HEARD, AGAIN = 1.0, 0.4
"""Seconds that are embedded, from the middle of a voice's longest stretch in a window and of its others. A second costs 9 ms;
to find a speaker takes more of them than to find it again."""

MANY = 40
"""With so many embeddings that count, TELLING seconds of a voice's longest stretch are enough."""

SHORTEST = 0.4
"""Seconds below which a stretch is not embedded: it gets its neighbours' speaker."""

TELLING = 0.7
"""Seconds that an embedding must stand for to count when speakers are found."""

DISTANCE = 0.76
"""Average cosine distance from which on two groups are two speakers; docs/speakers.md says how it was found."""

LEAST, SHARE = 3.0, 0.08
"""Seconds of embedded speech, and share of all of it, below which a group is no speaker, where there are others. The smaller
counts."""

CERTAINTY = 8.0
"""Weight of a second's cosine against SAME_VOICE."""

SAME_VOICE = 0.5
"""What it is worth when stretches of one voice of a window get the same speaker."""

PASSES = 2
"""Times that speakers are found again from their stretches."""

FILLED = 0.8
"""Seconds up to which a pause of one speaker is part of the turn, if nobody else speaks there."""


class _Placed(NamedTuple):
    """A stretch in the recording."""

    window: int
    voice: int
    start: float
    end: float
    seconds: float
    """How much of it the embedding stands for; 0 without one."""


class Diarizer:
    """Hears one recording. Not for several threads at once."""

    def __init__(self, networks: Networks, most: int | None = None) -> None:
        """``most`` is how many speakers there are at most; None leaves it to the recording. Raises ValueError below 1."""
        if most is not None and most < 1:
            raise ValueError(f"speakers is {most}: it must be at least 1; leave it out where the number is not known")
        self._networks = networks
        self._most = most
        self._waiting: list[Samples] = []
        self._count = 0
        """Samples in ``_waiting``."""
        self._windows = 0
        """Windows that are done with."""
        self._last = np.zeros(0, np.float32)
        """The last whole window."""
        self._places: list[_Placed] = []
        self._vectors: list[Vectors] = []
        """An embedding for each place with ``seconds``."""
        self._clusters = Clusters(SIZE)

    def hear(self, samples: Samples) -> None:
        """Go on with ``samples`` f32 [N], 16 kHz, N >= 0. After every 40 s of audio it takes as long as 40 s cost, about 0.2 s on
        one core, so feed less than that at once where somebody may want to stop. Raises FileNotFoundError without the networks."""
        for begin in range(0, samples.size, SAMPLES):
            self._waiting.append(samples[begin : begin + SAMPLES].copy())
            self._count += self._waiting[-1].size
            if self._count >= BATCH * SAMPLES:
                self._work()

    def finish(self) -> list[SpeakerTurn]:
        """Return the turns in order of their start; none without speech. Turns of different speakers may overlap: people talk at
        once. Nothing may be heard after it."""
        self._work()
        rest = np.concatenate([*self._waiting, np.zeros(0, np.float32)])
        seconds = self._windows * SAMPLES / SAMPLE_RATE + rest.size / SAMPLE_RATE
        if rest.size:
            # The last window reaches back into the one before: the network hears 10 s better than a few words and silence.
            before = self._last[rest.size :] if self._windows else self._last
            window = padded(np.concatenate([before, rest]))
            self._hear_windows(window[None], start=self._windows * SAMPLES - before.size, after=before.size)
        speakers = self._speakers()
        return turns(self._places, _numbered(self._places, speakers), seconds)

    def _work(self) -> None:
        """Hear the whole windows among what waits."""
        heard = np.concatenate([*self._waiting, np.zeros(0, np.float32)])
        whole = heard.size // SAMPLES
        for first in range(0, whole, BATCH):
            windows = heard[first * SAMPLES : min(whole, first + BATCH) * SAMPLES].reshape(-1, SAMPLES)
            self._hear_windows(windows, start=self._windows * SAMPLES)
            self._windows += len(windows)
            self._last = windows[-1].copy()
        self._waiting = [heard[whole * SAMPLES :].copy()]
        self._count = self._waiting[0].size

    def _hear_windows(self, windows: NDArray[np.float32], start: int, after: int = 0) -> None:
        """Find and embed the stretches of ``windows`` f32 [B, 160000], the first of which begins at the sample ``start``.

        Of a single window, what lies before its sample ``after`` has been heard already.
        """
        heard = HEARD if len(self._clusters) < MANY else TELLING
        known = after / SAMPLE_RATE
        places: list[_Placed] = []
        pieces: list[Samples] = []
        for number, (active, window) in enumerate(zip(self._networks.activity(windows), windows, strict=True)):
            begin = start / SAMPLE_RATE + number * SAMPLES / SAMPLE_RATE
            found = list(stretches(active, window))
            longest = _longest(found)
            for stretch in found:
                if stretch.end <= known:
                    continue
                seconds = min(heard if stretch in longest else AGAIN, stretch.longest_alone)
                if seconds < SHORTEST:
                    seconds = 0.0
                else:
                    pieces.append(_middle(window, stretch.alone[0], seconds))
                place = begin + max(stretch.start, known)
                places.append(_Placed(self._windows + number, stretch.voice, place, begin + stretch.end, seconds))
        vectors = self._networks.embeddings(pieces)
        for vector, seconds in zip(vectors, [place.seconds for place in places if place.seconds], strict=True):
            if seconds >= TELLING:
                self._clusters.add(vector, seconds)
        self._places += places
        self._vectors.extend(vectors)

    def _speakers(self) -> list[int]:
        """Return the number of a speaker for each place."""
        if not self._places:
            return []
        if not self._vectors:
            return [0] * len(self._places)
        if not self._clusters:
            for vector in self._vectors:
                self._clusters.add(vector, TELLING)
        seconds = np.array([place.seconds for place in self._places], np.float32)
        vectors = np.zeros((len(self._places), SIZE), np.float32)
        vectors[seconds > 0] = self._vectors
        centroids = self._clusters.centroids(DISTANCE, self._most, min(LEAST, SHARE * self._clusters.weight))
        for _ in range(PASSES):
            scores = CERTAINTY * seconds[:, None] * (vectors @ centroids.T)
            speakers = best_way(self._places, scores)
            members = np.array(speakers)[None] == np.arange(len(centroids))[:, None]
            found = unit((members * seconds) @ vectors)
            centroids = np.where(found.any(axis=1, keepdims=True), found, centroids)
        return speakers


def _middle(window: Samples, part: tuple[float, float], seconds: float) -> Samples:
    first = int((sum(part) - seconds) / 2 * SAMPLE_RATE)
    return window[first : first + int(seconds * SAMPLE_RATE)]


def _longest(found: Sequence[Stretch]) -> set[Stretch]:
    """Return the stretch of each voice in which it speaks alone for longest."""
    best: dict[int, Stretch] = {}
    for stretch in found:
        if stretch.voice not in best or stretch.longest_alone > best[stretch.voice].longest_alone:
            best[stretch.voice] = stretch
    return set(best.values())


def best_way(places: Sequence[_Placed], scores: NDArray[np.float32]) -> list[int]:
    """Return the best speaker for each place: Viterbi's way through ``scores`` [places, speakers] in order of time, where it counts
    when neighbours of one voice of a window keep their speaker."""
    order = sorted(range(len(places)), key=lambda one: places[one].start + places[one].end)
    total = scores[order[0]].copy()
    ways: list[NDArray[np.int64]] = []
    for one, other in pairwise(order):
        is_same = (places[one].window, places[one].voice) == (places[other].window, places[other].voice)
        stay = np.arange(total.size)
        best = int(total.argmax())
        bonus = SAME_VOICE if is_same else 0.0
        ways.append(np.where(total + bonus >= total[best], stay, best))
        total = np.maximum(total + bonus, total[best]) + scores[other]
    path = [int(total.argmax())]
    for way in reversed(ways):
        path.append(int(way[path[-1]]))
    found = [0] * len(places)
    for place, speaker in zip(order, reversed(path), strict=True):
        found[place] = speaker
    return found


def turns(places: Sequence[_Placed], speakers: Sequence[int], seconds: float) -> list[SpeakerTurn]:
    """Return turns of places, joined over short pauses in which nobody else begins."""
    found: list[SpeakerTurn] = []
    for place, speaker in sorted(zip(places, speakers, strict=True), key=lambda pair: pair[0].start):
        mine = next((at for at in range(len(found) - 1, -1, -1) if found[at].speaker == speaker), None)
        end = min(place.end, seconds)
        if mine is not None and (
            place.start <= found[mine].end
            or (place.start - found[mine].end < FILLED and not _anybody(found[mine + 1 :], found[mine].end))
        ):
            found[mine] = found[mine]._replace(end=max(found[mine].end, end))
        elif place.start < end:
            found.append(SpeakerTurn(place.start, end, speaker))
    return found


def _anybody(later: Sequence[SpeakerTurn], moment: float) -> bool:
    return any(turn.end > moment for turn in later)


def _numbered(places: Sequence[_Placed], speakers: Sequence[int]) -> list[int]:
    """Return speakers numbered in order of appearance."""
    order = sorted(range(len(places)), key=lambda one: places[one].start)
    names: dict[int, int] = {}
    for one in order:
        names.setdefault(speakers[one], len(names))
    return [names[speaker] for speaker in speakers]
