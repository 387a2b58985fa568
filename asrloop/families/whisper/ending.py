"""Says which endings look wrong: the text does not stop, says too much or too little, or the model did not believe it."""

import zlib
from collections.abc import Sequence

LEAST_LOG_PROB = -1.0
"""Least mean log probability of a token that is believed. As the model's authors have it."""

MOST_COMPRESSION = 2.4
"""Greatest ratio by which a text that does not repeat itself can be compressed. As the model's authors have it."""

SAID_TWICE = 3
"""Shortest phrase, in tokens, that is not said twice in a row by many."""


SILENT_SECONDS, LEAST_TOKENS_PER_SECOND = 3.0, 1.0
"""Behind so many seconds, in which nothing may be said, there are at least so many tokens a second."""


def looks_wrong(tokens: Sequence[int], text: str, log_probs: Sequence[float], seconds: float, *, cut: bool) -> bool:
    """Return True when the audio should be decoded once more. ``cut`` is True when decoding did not end by itself.
    ``seconds`` are those of the audio.

    A right text may look wrong, too: that costs time and nothing else.
    """
    if cut:
        return True
    if not tokens:
        return False
    written = text.encode()
    return (
        len(tokens) < LEAST_TOKENS_PER_SECOND * (seconds - SILENT_SECONDS)
        or says_twice(tokens)
        or sum(log_probs) / len(log_probs) < LEAST_LOG_PROB
        or len(written) / len(zlib.compress(written)) > MOST_COMPRESSION
    )


def says_twice(tokens: Sequence[int]) -> bool:
    """Return True when a phrase of at least SAID_TWICE tokens stands twice in a row."""
    for length in range(SAID_TWICE, len(tokens) // 2 + 1):
        same = 0
        for first, second in zip(tokens, tokens[length:], strict=False):
            same = same + 1 if first == second else 0
            if same == length:
                return True
    return False
