"""Which words of an open segment are stable: those that decodings in a row agree on and are sure of. Policy only."""

from collections.abc import Sequence
from itertools import takewhile

NEEDED = 2.6
"""The squares of a word's probabilities in the decodings in a row that agree on it, and on all before it, add up to this: three
decodings make a word stable that they are sure of, and more than ten one of even odds. Three whatever they say cost 2.2 points of
word error rate, because what comes later changes how a model hears a word."""


class Agreement:
    """Of one segment. What is stable once stays so, to the letter."""

    def __init__(self) -> None:
        self.stable: list[str] = []
        self.tail: list[str] = []
        self._words: list[str] = []
        """Of the decoding before."""
        self._evidence: list[float] = []
        """For each of them."""

    def take(self, text: str, probabilities: Sequence[float] | None) -> None:
        """Another decoding of the segment, which is longer by now, and how probable each word is; None for one that must not
        count. Words whose probability is not known do not become stable, and neither does the last one."""
        words, known = text.split(), len(self.stable)
        if probabilities is None:
            self._words, self._evidence = [], []
        elif words[:known] == self.stable:
            same = self._evidence[: _common(words, self._words)]
            before = [*same, *[0.0] * (len(words) - len(same))]
            self._words = words
            self._evidence = [one + each**2 for one, each in zip(before, probabilities, strict=False)]
            more = takewhile(lambda evidence: evidence >= NEEDED, self._evidence[known : len(words) - 1])
            self.stable = words[: known + len(list(more))]
        self.tail = words[len(self.stable) :]

    def finish(self, text: str) -> None:
        """The last decoding: all its words, behind what is stable already."""
        self.stable, self.tail = [*self.stable, *text.split()[len(self.stable) :]], []


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
