"""A term that is being tried and the limit of tokens of a row."""

from collections.abc import Mapping

import numpy as np

from asrloop.engine.family import Emission
from asrloop.families.attention.memory import DecoderSizes
from asrloop.families.attention.rows import EncodedAudio, Rows
from asrloop.families.attention.said import Said
from tests.families.test_bias import PIECES, SURE, TOKEN, WAYS, biased

SIZES = DecoderSizes(
    layers=1, heads=1, cache_head_size=1, cross_head_size=1, cross_type="float32", vocabulary_size=len(PIECES), bos=1, eos=0
)  # fmt: skip
HEARD = {name: np.zeros((1, 1, 1, 1), np.float32) for name in ("cross_key_0", "cross_value_0")}


def said(limit: int, *steps: Mapping[str, float]) -> tuple[str, list[Emission], Said]:
    """The text of a row that may have ``limit`` tokens, where the model thinks so much of some pieces in each step."""
    rows, one = Rows(SIZES, 1, limit + 1, 1), Said(biased("Szczecin"), keeps_queries=True)
    rows.start(0, EncodedAudio(HEARD, 1, limit))
    found: list[Emission] = []
    for number, step in enumerate(steps):
        log_probs = np.full(len(PIECES), -40.0, np.float32)
        for piece, value in step.items():
            log_probs[TOKEN[piece]] = value
        own = int(log_probs.argmax())
        asked = np.full((1, 1), number, np.float32)
        found.append(one.decide(rows, 0, own, float(log_probs[own]), log_probs, lambda asked=asked: asked))  # type: ignore[misc]
        if found[-1].done:
            break
    return "".join(PIECES[token] for each in found for token in each.tokens), found, one


def test_a_term_that_the_limit_leaves_half_said_is_taken_back() -> None:
    text, found, one = said(4, {" the": SURE}, *WAYS[:4], {"ed": SURE}, {".": SURE}, {".": SURE}, {".": SURE})
    assert text == " the shed."
    assert found[-1].cut
    assert one.queries is not None
    assert [float(each[0, 0]) for each in one.queries] == [0, 1, 5, 6]


def test_a_term_that_has_only_just_begun_at_the_limit_is_not_said() -> None:
    text, found, _ = said(1, {" the": SURE}, WAYS[0])
    assert text == " the"
    assert found[-1].cut


def test_a_term_that_ends_at_the_limit_is_said() -> None:
    text, found, _ = said(len(WAYS), *WAYS, {".": SURE})
    assert text == " Szczecin"
    assert found[-1].cut
