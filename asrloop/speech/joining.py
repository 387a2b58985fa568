"""Joins two windows that overlap where a recording had no pause to cut at: their common words decide the seam. Policy only.

What both heard is said once: the longest common subsequence of words at the end of one and at the start of the next is found, and
the seam lies at the middle of it, farthest from both cuts, where each window knows least of what lies beyond.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Protocol


class Word(Protocol):
    """A word of a window, as the family says; see asrloop.engine.family.Word."""

    @property
    def first(self) -> int:
        """Index of its first token."""

    @property
    def end(self) -> int:
        """Index behind its last token."""

    @property
    def text(self) -> str:
        """Its text."""


MOST_WORDS, PART = 12, 1 / 3
"""Words that are compared on each side: more than anybody says in the time that two windows share. Where no spaces part them they
are characters or little more, and each counts for less."""


def seam(before: Sequence[Word], after: Sequence[Word]) -> tuple[int, int]:
    """Return how many tokens of the first of two windows stay, and how many of the second go, from the words of both.

    Without a common word the last word of the first and the first of the second go, for the cut went through them. Where one
    of them heard nothing all of the other stays.
    """
    if not before or not after:
        return before[-1].end if before else 0, 0
    tail, head = before[-_near(reversed(before)) :], after[: _near(after)]
    common = _common([*map(_letters, tail)], [*map(_letters, head)])
    if common:
        left, right = common[len(common) // 2]
        return tail[left].first, head[right].first
    return tail[-1].first, head[1].first if len(head) > 1 else head[0].end


def _near(words: Iterable[Word]) -> int:
    """Return how many of the words are compared."""
    reached = accumulate(1 if word.text[:1].isspace() else PART for word in words)
    return max(1, sum(1 for far in reached if far <= MOST_WORDS))


def _letters(word: Word) -> str:
    """Return a word without case and marks; "" for a mark alone."""
    return "".join(filter(str.isalnum, word.text.lower()))


def _common(tail: Sequence[str], head: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of indices of a longest common subsequence, in order."""
    best: list[list[list[tuple[int, int]]]] = [[[] for _ in range(len(head) + 1)] for _ in range(len(tail) + 1)]
    for i, left in enumerate(tail):
        for j, right in enumerate(head):
            if left and left == right:
                best[i + 1][j + 1] = [*best[i][j], (i, j)]
            else:
                best[i + 1][j + 1] = max(best[i][j + 1], best[i + 1][j], key=len)
    return best[-1][-1]
