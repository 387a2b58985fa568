"""Which words of an open segment are stable: those that successive decodings agree on and are sure of. Policy only."""

from collections.abc import Sequence
from itertools import takewhile

NEEDED = 2.6
"""A word is stable when the squares of its probabilities in successive decodings that agree on it, and on all before it, add up to
this: after three decodings that are sure of it, after more than ten at even odds. Three decodings whatever their probability cost
2.2 points of word error rate, because what comes later changes how a model hears a word."""


class Agreement:
    """The words of one segment. A stable word stays, to the letter. Each word has the space before it, as the family spells it."""

    def __init__(self) -> None:
        self.stable: list[str] = []
        self.tail: list[str] = []
        self._words: list[str] = []
        """Words of the previous decoding."""
        self._evidence: list[float] = []
        """Sum of squared probabilities of each of these words."""

    def take(self, words: Sequence[str], probabilities: Sequence[float] | None) -> None:
        """Take another decoding of the segment, which is longer by now, with the probability of each word; None for a decoding
        that must not count. The last word does not become stable."""
        known = len(self.stable)
        if probabilities is None:
            self._words, self._evidence = [], []
        elif list(words[:known]) == self.stable:
            same = self._evidence[: _common(words, self._words)]
            before = [*same, *[0.0] * (len(words) - len(same))]
            self._words = list(words)
            self._evidence = [one + each**2 for one, each in zip(before, probabilities, strict=True)]
            more = takewhile(lambda evidence: evidence >= NEEDED, self._evidence[known : len(words) - 1])
            self.stable = self._words[: known + len(list(more))]
        self.tail = list(words[len(self.stable) :])

    def finish(self, words: Sequence[str]) -> None:
        """Take the last decoding: all its words, behind what is stable already."""
        self.stable, self.tail = [*self.stable, *words[len(self.stable) :]], []


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))
