"""Which words of an open segment are stable: those that several decodings in a row agree on, but for the last. Policy only."""

from collections import deque
from collections.abc import Sequence

AGREEING = 3
"""Decodings in a row that must agree. With two, stable words that turn out wrong cost 1.4 points of word error rate more."""


class Agreement:
    """Of one segment. What is stable once stays so, to the letter."""

    def __init__(self) -> None:
        self.stable: list[str] = []
        self.tail: list[str] = []
        self._earlier: deque[list[str]] = deque(maxlen=AGREEING - 1)

    def take(self, text: str, *, complete: bool = True) -> None:
        """Another decoding of the segment, which is longer by now. Of one that is not ``complete`` nothing becomes stable."""
        words = text.split()
        if not complete:
            self._earlier.clear()
        elif words[: len(self.stable)] == self.stable:
            if len(self._earlier) == AGREEING - 1:
                agreed = min(_common(words, one) for one in self._earlier)
                self.stable = words[: max(len(self.stable), min(agreed, len(words) - 1))]
            self._earlier.append(words)
        self.tail = words[len(self.stable) :]

    def finish(self, text: str) -> None:
        """The last decoding: all its words, behind what is stable already."""
        self.stable, self.tail = [*self.stable, *text.split()[len(self.stable) :]], []


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
