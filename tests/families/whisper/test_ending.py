"""Endings that look wrong."""

import pytest

from asrloop.families.whisper.ending import looks_wrong, says_twice


@pytest.mark.parametrize(
    ("tokens", "twice"),
    [
        ([], False),
        ([1, 2, 3, 4, 5, 6], False),
        ([1, 2, 1, 2], False),
        ([1, 2, 3, 1, 2, 3], True),
        ([9, 1, 2, 3, 1, 2, 3, 8], True),
        ([1, 2, 3, 4, 1, 2, 3], False),
        ([7] * 5, False),
        ([7] * 6, True),
        ([*range(40), *range(40)], True),
    ],
)
def test_a_phrase_said_twice_is_found(tokens: list[int], twice: bool) -> None:
    assert says_twice(tokens) is twice


def test_every_sign_counts_by_itself() -> None:
    tokens, text, sure = [1, 2, 3], "as it should be", [-0.1, -0.2, -0.1]
    assert not looks_wrong(tokens, text, sure, 2.0, cut=False)
    assert looks_wrong(tokens, text, sure, 2.0, cut=True)
    assert looks_wrong(tokens, text, [-0.9, -1.2, -1.0], 2.0, cut=False)
    assert looks_wrong(tokens, "so and so " * 20, sure, 2.0, cut=False)
    assert looks_wrong([1, 2, 3, 1, 2, 3], text, sure, 2.0, cut=False)
    assert looks_wrong(tokens, text, sure, 9.0, cut=False)
    assert not looks_wrong([], "", [], 9.0, cut=False)
