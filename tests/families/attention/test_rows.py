"""Rows change places with all that they hold and nothing else; a freed one holds next to nothing."""

import dataclasses

import numpy as np
import pytest

from asrloop.families.attention.memory import DecoderSizes
from asrloop.families.attention.rows import EncodedAudio, Rows

SIZES = DecoderSizes(
    layers=2, heads=2, cache_head_size=3, cross_head_size=4, cross_type="int8", vocabulary_size=9, bos=1, eos=2
)
FRAMES = 6


def encoded(seed: int, frames: int) -> EncodedAudio:
    rng = np.random.default_rng(seed)
    names = [f"cross_{part}_{layer}" for layer in range(2) for part in ("key", "value")]
    return EncodedAudio({name: rng.integers(1, 99, (1, 2, frames, 4)).astype(np.int8) for name in names}, frames, 5)


@pytest.fixture
def rows() -> Rows:
    """A long utterance in the first row, a short one in the second."""
    rows = Rows(SIZES, 2, token_capacity=5, frame_capacity=FRAMES)
    for row, (frames, tokens) in enumerate([(FRAMES, 4), (2, 1)]):
        rows.start(row, encoded(row, frames))
        for token in range(tokens):
            for name, cache in rows.memory.cache.items():
                cache[row, :, token] = row + token + len(name)
            rows.advance(row, 3 + token, -1.0)
    return rows


def held(rows: Rows, row: int) -> list[object]:
    length, frames = int(rows.lengths[row]), int(rows.frames[row])
    return [
        *(cache[row, :, :length].tolist() for cache in rows.memory.cache.values()),
        *(cross[row, :, :frames].tolist() for cross in rows.memory.cross.values()),
        *(numbers[row].tolist() for numbers in (rows.tokens, rows.lengths, rows.frames, rows.token_limits)),
    ]


def test_rows_change_places_with_all_they_hold(rows: Rows) -> None:
    before = held(rows, 0), held(rows, 1)
    rows.exchange(0, 1)
    assert (held(rows, 1), held(rows, 0)) == before


def test_a_freed_row_is_not_dragged_along(rows: Rows) -> None:
    short = held(rows, 1)
    behind = {name: cross[1, :, 2:].copy() for name, cross in rows.memory.cross.items()}
    rows.free(0)
    assert (rows.lengths[0], rows.frames[0]) == (0, 1)
    rows.exchange(0, 1)
    assert held(rows, 0) == short
    assert all((rows.memory.cross[name][1, :, 2:] == content).all() for name, content in behind.items())


def test_a_row_goes_on_where_another_is(rows: Rows) -> None:
    other = Rows(SIZES, 1, token_capacity=5, frame_capacity=FRAMES)
    other.start(0, encoded(0, FRAMES))
    rows.start(1, encoded(0, FRAMES))
    other.take_over(0, rows)
    rows.take_over(1, other)
    assert held(rows, 1) == held(rows, 0)


def test_a_text_begins_behind_its_prefix_and_never_with_what_is_no_beginning() -> None:
    rows = Rows(dataclasses.replace(SIZES, not_first=(2, 5)), 1, token_capacity=8, frame_capacity=FRAMES)
    rows.start(0, encoded(0, FRAMES))
    rows.begin(0, (7, 8, 1))
    assert (rows.tokens[0, 0], rows.lengths[0], rows.said(0)) == (1, 2, 0)
    rows.next_tokens[0], rows.token_log_probs[0] = 5, -0.1
    rows.log_probs[:] = -1e30  # as what is padded is
    rows.log_probs[0, 0, :9] = [-9, -8, -0.5, -7, -3, -0.1, -6, -5, -4]
    assert rows.may_take_another(1)
    assert rows.taken(0, 0) == (4, -3.0)
    rows.advance(0, 4, -3.0)
    assert not rows.may_take_another(1)
    assert rows.taken(0, 0) == (5, pytest.approx(-0.1))
    for _ in range(3):
        assert not rows.advance(0, 4, -3.0).done
    assert not rows.advance(0, 4, -3.0).done  # the fifth token, as many as the audio may get
    assert rows.advance(0, 4, -3.0).cut
