"""Joins two windows that overlap where a recording had no pause to cut at: their common words decide the seam. Policy only.

What both heard is said once: the longest common subsequence of words at the end of one and at the start of the next is found, and
the seam lies at the middle of it, farthest from both cuts, where each window knows least of what lies beyond.
"""

from collections.abc import Sequence
from typing import NamedTuple

MOST_WORDS = 12
"""Words that are looked at on each side: more than anybody says in the time that two windows share."""


class Word(NamedTuple):
    """One word of a window."""

    token: int
    """Index of its first token."""

    letters: str
    """Without case and marks; "" for a mark alone."""


def seam(before: Sequence[str], after: Sequence[str]) -> tuple[int, int]:
    """From the pieces of the tokens of two windows: how many tokens of the first stay, and how many of the second go.

    Without a common word the last word of the first and the first of the second go, for the cut went through them. Where one
    of them heard nothing all of the other stays.
    """
    if not before or not after:
        return len(before), 0
    tail, head = _words(before)[-MOST_WORDS:], _words(after)[:MOST_WORDS]
    common = _common(tail, head)
    if common:
        left, right = common[len(common) // 2]
        return tail[left].token, head[right].token
    return tail[-1].token, head[1].token if len(head) > 1 else len(after)


def word_starts(pieces: Sequence[str]) -> list[int]:
    """Where words begin among the pieces of tokens: at the first, and where one begins with a space."""
    return [index for index, piece in enumerate(pieces) if index == 0 or piece.startswith(" ")]


def _words(pieces: Sequence[str]) -> list[Word]:
    starts = word_starts(pieces)
    ends = [*starts[1:], len(pieces)]
    return [
        Word(start, "".join(filter(str.isalnum, "".join(pieces[start:end]).lower())))
        for start, end in zip(starts, ends, strict=True)
    ]


def _common(tail: Sequence[Word], head: Sequence[Word]) -> list[tuple[int, int]]:
    """Pairs of indices of a longest common subsequence, in order."""
    best: list[list[list[tuple[int, int]]]] = [[[] for _ in range(len(head) + 1)] for _ in range(len(tail) + 1)]
    for i, left in enumerate(tail):
        for j, right in enumerate(head):
            if left.letters and left.letters == right.letters:
                best[i + 1][j + 1] = [*best[i][j], (i, j)]
            else:
                best[i + 1][j + 1] = max(best[i][j + 1], best[i + 1][j], key=len)
    return best[-1][-1]
