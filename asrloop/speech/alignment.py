"""Finds when tokens were spoken: the best way through frames, on which words may have pauses between them.

Whoever decoded the tokens says how much each frame speaks for each of them, such as attention or the frame at which a transducer
decided it. The way goes from frame to frame through all tokens in order. Between words it may rest in a pause: that costs where the
frame is loud, as a token costs where it is quiet. So a word ends where its sound ends, not where the next one begins.
Source: dynamic time warping over cross-attention (as for Whisper), with pauses as states of their own, as in forced alignment.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LOUD_PAUSE, QUIET_TOKEN = 1.0, 0.6
"""What a frame costs in a pause where it is loud, and in a token where it is quiet. Evidence is worth 0..1."""


class Span(NamedTuple):
    """Frames of a token."""

    begin: float
    end: float
    """Behind the last one. Both are whole numbers where there are as many frames as tokens."""


def align(evidence: NDArray[np.float32], quiet: NDArray[np.bool_], begins_word: Sequence[bool]) -> list[Span]:
    """Return the frames of each token. Spans are in order, do not overlap, and have at least a frame each.

    ``evidence`` is f32 [tokens, frames], 0..1; ``quiet`` says which frames have no speech; ``begins_word`` which tokens may have a
    pause before them. With fewer frames than tokens each has an equal part of them.
    """
    tokens, frames = evidence.shape
    if frames < tokens or not tokens:
        return [Span(begin, end) for begin, end in pairwise(np.linspace(0, frames, tokens + 1).tolist())]
    said = _sums(evidence - np.where(quiet, QUIET_TOKEN, 0.0))
    rested = _sums(np.where(quiet, 0.0, -LOUD_PAUSE))
    may_rest = [*begins_word, True]
    # What the best way is worth up to each frame, where the next token, or the pause before it, begins there.
    before = rested if may_rest[0] else np.where(np.arange(frames + 1), -np.inf, 0.0)
    begins, ends = np.empty((2, tokens, frames + 1))
    for token in range(tokens):
        begins[token] = before - said[token]
        before = np.append(-np.inf, said[token, 1:] + np.maximum.accumulate(begins[token, :-1]))
        if may_rest[token + 1]:
            ends[token] = before - rested
            before = rested + np.maximum.accumulate(ends[token])
    spans: list[Span] = []
    at = frames
    for token in reversed(range(tokens)):
        end = _last_best(ends[token, : at + 1]) if may_rest[token + 1] else at
        at = _last_best(begins[token, :end])
        spans.append(Span(at, end))
    return spans[::-1]


def _sums(gains: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return what all frames before each give together, f64 [..., frames + 1]."""
    return np.append(np.zeros((*gains.shape[:-1], 1)), np.cumsum(gains, axis=-1, dtype=np.float64), axis=-1)


def _last_best(values: NDArray[np.float64]) -> int:
    """Return the last index of the greatest value."""
    return values.size - 1 - int(values[::-1].argmax())
