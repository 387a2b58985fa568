"""Who spoke when, as the engine is told, and who speaks a word: whoever speaks in most of its time."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
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
        self._longest = max((turn.end - turn.start for turn in turns), default=0.0)
        self._numbers: dict[int, int] = {}

    def speaker(self, start: float, end: float) -> int:
        """Return who speaks from ``start`` to ``end``, in seconds; where nobody does, whose turn is nearest; -1 without turns."""
        near = self._turns[bisect_left(self._starts, start - self._longest) : bisect_left(self._starts, end)]
        shared: defaultdict[int, float] = defaultdict(float)
        for turn in near:
            shared[turn.speaker] += min(end, turn.end) - max(start, turn.start) if turn.end > start else 0.0
        if not any(value > 0 for value in shared.values()):
            if not self._turns:
                return UNKNOWN
            nearest = min(self._turns, key=lambda turn: max(turn.start - end, start - turn.end))
            return self._number(nearest.speaker)
        return self._number(max(shared, key=shared.__getitem__))

    def _number(self, speaker: int) -> int:
        return self._numbers.setdefault(speaker, len(self._numbers))
