"""Finds endless repetition: a decoder that follows its own output can loop over one phrase. Policy only: token ids, no model."""

from collections.abc import Sequence

PHRASE = 24
"""Longest phrase, in tokens."""

TIMES, OVER = 4, 12
"""A loop is a phrase that stands at least TIMES in a row, over at least OVER tokens. People repeat themselves too: "never, never,
never" and "nine nine nine nine" stay."""


def kept(tokens: Sequence[int]) -> int | None:
    """Return how many of ``tokens`` to keep when they end in a loop: all up to the end of its first phrase. None without a loop.

    Call it after every token to find a loop as soon as there is one. The shortest phrase that loops decides.
    """
    end = len(tokens)
    for phrase in range(1, min(PHRASE, end // TIMES) + 1):
        if tokens[-1] != tokens[-1 - phrase]:
            continue
        start = end - phrase
        while start and tokens[start - 1] == tokens[start - 1 + phrase]:
            start -= 1
        if end - start >= max(TIMES * phrase, OVER):
            return start + phrase
    return None
