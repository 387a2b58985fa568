"""Who spoke when, as the engine is told, and who speaks a word: whoever speaks in most of its time."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from asrloop.audio import Samples

UNKNOWN = -1


class SpeakerTurn(NamedTuple):
    """One speaker, from ``start`` to ``end`` in seconds of the recording. Speakers are 0, 1, ... in order of appearance."""

    start: float
    end: float
    speaker: int


class Diarizer(Protocol):
    """Hears one recording: :class:`asrloop.speakers.diarizer.Diarizer`, or what stands in for it in a test."""

    def hear(self, samples: Samples) -> None:
        """Go on with ``samples``, f32 [N], 16 kHz."""

    def finish(self) -> Sequence[SpeakerTurn]:
        """Return who spoke when, in order of the turns' start. Those of different speakers may overlap."""


class Attribution:
    """Speakers of words, numbered anew in the order in which they are asked for: a turn may hold no word."""

    def __init__(self, turns: Sequence[SpeakerTurn]) -> None:
        """``turns`` are in order of their start."""
        self._turns = turns
        self._starts = [turn.start for turn in turns]
        self._reached = list(accumulate((turn.end for turn in turns), max))
        """When each turn and all before it have ended."""
        self._numbers: dict[int, int] = {}

    def speaker(self, start: float, end: float) -> int:
        """Return who speaks from ``start`` to ``end``, in seconds; where nobody does, whose turn is nearest; -1 without turns."""
        if not self._turns:
            return UNKNOWN
        first, behind = bisect_right(self._reached, start), bisect_left(self._starts, end)
        near = self._turns[first:behind] or self._neighbours(behind)
        shared: defaultdict[int, float] = defaultdict(float)
        for turn in near:
            if start < end and turn.start < end and start < turn.end:
                shared[turn.speaker] += min(end, turn.end) - max(start, turn.start)
        if shared:
            return self._number(max(shared, key=shared.__getitem__))
        return self._number(min(near, key=lambda turn: max(turn.start - end, start - turn.end)).speaker)

    def _neighbours(self, behind: int) -> Sequence[SpeakerTurn]:
        """Return, of the turns before ``behind``, the one that ends last, and the one there, as far as they are there. All turns
        of a recording of hours would take seconds to compare."""
        last = bisect_left(self._reached, self._reached[behind - 1]) if behind else 0
        return [*self._turns[last : min(last + 1, behind)], *self._turns[behind : behind + 1]]

    def _number(self, speaker: int) -> int:
        return self._numbers.setdefault(speaker, len(self._numbers))
