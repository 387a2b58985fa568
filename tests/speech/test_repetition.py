"""A phrase repeated without end is cut to one; people who repeat themselves are left alone."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrloop.speech.repetition import kept


def decoded(tokens: Sequence[int]) -> list[int]:
    """What is left of ``tokens`` when the question is asked after each of them, as the engine does."""
    for end in range(1, len(tokens) + 1):
        cut = kept(tokens[:end])
        if cut is not None:
            return list(tokens[:cut])
    return list(tokens)


def ids(text: str) -> list[int]:
    """A token a word or mark."""
    words = text.replace(",", " ,").replace(".", " .").split()
    return [hash(word) for word in words]


@pytest.mark.parametrize(
    "said",
    [
        "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.",
        "Never, never, never, give up.",
        "nine nine nine nine",
        "zero one two nine nine nine nine nine nine four",
        "no no no no no no no no no no no",
        "We shall fight on the beaches, we shall fight on the landing grounds, we shall fight in the fields",
        "it was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness",
        "one, two, three, one, two, three, one, two, three",
    ],
)
def test_rhetoric_and_digits_stay(said: str) -> None:
    assert decoded(ids(said)) == ids(said)


@pytest.mark.parametrize(
    ("before", "phrase"),
    [("The", "first is the"), ("and then", "oh,"), ("", "2020-"), ("so", " ".join(map(str, range(24))))],
)
def test_loops_are_cut_to_one(before: str, phrase: str) -> None:
    assert decoded(ids(before) + ids(phrase) * 40) == ids(before) + ids(phrase)


@given(
    before=st.lists(st.integers(100, 1000), max_size=30, unique=True),
    phrase=st.lists(st.integers(0, 99), min_size=1, max_size=24, unique=True),
    times=st.integers(4, 20),
    after=st.lists(st.integers(2000, 3000), max_size=5, unique=True),
)
def test_a_loop_is_found_as_soon_as_it_is_one(
    before: list[int], phrase: list[int], times: int, after: list[int]
) -> None:
    tokens = before + phrase * times + after
    if len(phrase) * times >= 12:
        assert decoded(tokens) == before + phrase
    else:
        assert decoded(tokens) == tokens


@given(st.lists(st.integers(0, 3), max_size=60))
def test_what_is_kept_is_a_beginning_with_the_first_occurrence(tokens: list[int]) -> None:
    cut = kept(tokens)
    if cut is not None:
        period = next(
            p for p in range(1, 25) if tokens[cut - p :] == (tokens[cut - p : cut] * 60)[: len(tokens) - cut + p]
        )
        assert len(tokens) - (cut - period) >= max(12, 4 * period)


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=200))
def test_what_never_comes_again_stays(tokens: list[int]) -> None:
    assert decoded(tokens) == tokens
