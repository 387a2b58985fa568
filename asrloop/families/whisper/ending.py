"""Says which endings look wrong: the text does not stop, says too much, or the model did not believe it."""

import zlib
from collections.abc import Sequence

LEAST_LOG_PROB = -1.0
"""Least mean log probability of a token that is believed. As the model's authors have it."""

MOST_COMPRESSION = 2.4
"""Greatest ratio by which a text that does not repeat itself can be compressed. As the model's authors have it."""


def looks_wrong(text: str, log_probs: Sequence[float], *, cut: bool) -> bool:
    """Return True when the audio should be decoded once more. ``cut`` is True when decoding did not end by itself."""
    if cut:
        return True
    if not log_probs:
        return False
    written = text.encode()
    return (
        sum(log_probs) / len(log_probs) < LEAST_LOG_PROB
        or len(written) / len(zlib.compress(written)) > MOST_COMPRESSION
    )
