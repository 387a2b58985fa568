"""Tokens find their frames, words leave pauses out, and spans are always in order."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrloop.speech.alignment import Span, align


def evidence(tokens: int, frames: int, *spans: tuple[int, int]) -> np.ndarray:  # type: ignore[type-arg]
    found = np.zeros((tokens, frames), np.float32)
    for token, (begin, end) in enumerate(spans):
        found[token, begin:end] = 0.5
    return found


def test_tokens_of_a_word_follow_one_another() -> None:
    given = evidence(2, 10, (0, 4), (6, 10))
    first, second = align(given, np.zeros(10, bool), [True, False])
    assert first.begin == 0
    assert first.end == second.begin
    assert 4 <= first.end <= 6
    assert second.end == 10


def test_a_word_ends_with_its_sound() -> None:
    quiet = np.zeros(20, bool)
    quiet[:3] = quiet[8:12] = quiet[17:] = True
    given = evidence(2, 20, (4, 9), (11, 16))
    assert align(given, quiet, [True, True]) == [Span(3, 8), Span(12, 17)]


def test_there_is_no_pause_within_a_word() -> None:
    quiet = np.zeros(20, bool)
    quiet[8:12] = True
    first, second = align(evidence(2, 20, (0, 8), (12, 20)), quiet, [True, False])
    assert first.end == second.begin


def test_more_tokens_than_frames_divide_them() -> None:
    spans = align(np.ones((5, 2), np.float32), np.zeros(2, bool), [True] * 5)
    assert [span.begin for span in spans] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])
    assert [span.end for span in spans] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2])


def test_without_frames_nothing_takes_time() -> None:
    assert align(np.ones((2, 0), np.float32), np.zeros(0, bool), [True] * 2) == [Span(0, 0)] * 2


@given(st.data(), st.integers(1, 8), st.integers(1, 40))
def test_spans_are_in_order_whatever_the_evidence(data: st.DataObject, tokens: int, frames: int) -> None:
    numbers = st.floats(0, 1, width=32)
    flat = data.draw(st.lists(numbers, min_size=tokens * frames, max_size=tokens * frames))
    quiet = np.array(data.draw(st.lists(st.booleans(), min_size=frames, max_size=frames)))
    begins = data.draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens))
    spans = align(np.array(flat, np.float32).reshape(tokens, frames), quiet, begins)
    assert len(spans) == tokens
    assert all(0 <= span.begin < span.end <= frames for span in spans)
    assert all(one.end <= other.begin for one, other in pairwise(spans))
