"""Finds when tokens were spoken: the best way through frames, on which words may have pauses between them.

Whoever decoded the tokens says how much each frame speaks for each of them, such as attention or the frame at which a transducer
decided it. The way goes from frame to frame through all tokens in order. Between words it may rest in a pause: that costs where the
frame is loud, as a token costs where it is quiet. So a word ends where its sound ends, not where the next one begins.
Source: dynamic time warping over cross-attention (as for Whisper), with pauses as states of their own, as in forced alignment.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LOUD_PAUSE, QUIET_TOKEN = 1.0, 0.6
"""What a frame costs in a pause where it is loud, and in a token where it is quiet. Evidence is worth 0..1."""

_NEVER = -1e9


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
    gains = _gains(evidence, quiet, begins_word)
    return _spans(_best_way(gains), tokens)


def _gains(evidence: NDArray[np.float32], quiet: NDArray[np.bool_], begins_word: Sequence[bool]) -> NDArray[np.float32]:
    """Return what each frame gives in each state, [frames, states]: pause, token, pause, token, ... pause."""
    tokens, frames = evidence.shape
    gains = np.full((frames, 2 * tokens + 1), _NEVER, np.float32)
    gains[:, 1::2] = evidence.T - np.where(quiet, QUIET_TOKEN, 0.0)[:, None]
    may_rest = 2 * np.append(np.flatnonzero(begins_word), tokens)
    gains[:, may_rest] = np.where(quiet, 0.0, -LOUD_PAUSE)[:, None]
    return gains


def _best_way(gains: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the state at each frame: the one before, the next, or from a token the next token; of equals the later move."""
    frames, states = gains.shape
    may_skip = np.where(np.arange(states) % 2, 0.0, _NEVER).astype(np.float32)
    # Two states that nobody reaches stand before the first.
    best = np.full((frames, states + 2), _NEVER, np.float32)
    best[0, 2:4] = gains[0, :2]
    for before, after, gain in zip(best, best[1:], gains[1:], strict=False):
        reached = after[2:]
        np.add(before[:-2], may_skip, reached)
        np.maximum(reached, before[1:-1], reached)
        np.maximum(reached, before[2:], reached)
        reached += gain
    state = states - 1 if best[-1, -1] > best[-1, -2] else states - 2
    way = np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        way[frame] = state
        skipped, advanced, same = best[frame - 1, state : state + 3].tolist()
        skipped += may_skip[state]
        if skipped >= max(advanced, same):
            state -= 2
        elif advanced >= same:
            state -= 1
    return way


def _spans(way: NDArray[np.int64], tokens: int) -> list[Span]:
    states = 2 * np.arange(tokens) + 1
    return [
        Span(int(begin), int(end))
        for begin, end in zip(np.searchsorted(way, states), np.searchsorted(way, states, side="right"), strict=True)
    ]
