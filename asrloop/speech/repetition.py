"""Endless repetition: a decoder that feeds on its own words says one phrase over and over. Policy only: token ids, no model."""

from collections.abc import Sequence

PHRASE = 24
"""Most tokens of a phrase."""

TIMES, OVER = 4, 12
"""A phrase is repeated without end when it stands at least so often in a row, over at least so many tokens. People repeat
themselves too: "never, never, never" and "nine nine nine nine" stay."""


def kept(tokens: Sequence[int]) -> int | None:
    """How many of ``tokens`` stay when they end in an endless repetition, its first occurrence among them; None when they do not.

    Asked after every token, it answers as soon as there is one. The shortest phrase decides, and what came before its
    first occurrence stays.
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
