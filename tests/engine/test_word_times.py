"""Times of words are laid over what was heard: marks take none, pauses are left out, whatever the family gives."""

from itertools import pairwise

import numpy as np
import pytest

from asrloop.engine.family import Evidence
from asrloop.engine.options import Draft, Options
from asrloop.engine.utterance import Utterance
from asrloop.engine.word_times import token_spans
from asrloop.families.text.words import words_between_spaces
from asrloop.speech.silence import STEP_SECONDS
from tests.engine.test_engine import CountingFamily

PIECES = ["Well", ",", " no", " -", " it", "self", "."]
FRAME = 10 * STEP_SECONDS


class Spelling(CountingFamily):
    """A token is a place in PIECES."""

    def piece(self, token: int) -> str:
        return PIECES[token]

    def words(self, tokens):  # type: ignore[no-untyped-def]
        return words_between_spaces([*map(self.piece, tokens)])


def said(*spans: tuple[int, int], quiet: tuple[int, int] = (0, 0)) -> Utterance:
    """An utterance of 2 s whose tokens have evidence in these frames; frames in ``quiet`` are so."""
    utterance = Utterance(np.zeros(32_000, np.float32), 16_000, Options(word_times=True))
    utterance.tokens = list(range(len(PIECES)))
    weights = np.zeros((len(PIECES), 25), np.float32)
    for token, (begin, end) in enumerate(spans):
        weights[token, begin:end] = 0.8
    utterance.evidence = Evidence(weights, FRAME)
    utterance.quiet = np.zeros(250, np.bool_)
    utterance.quiet[quiet[0] * 10 : quiet[1] * 10] = True
    return utterance


SPANS = ((0, 4), (4, 9), (9, 12), (12, 14), (14, 18), (18, 21), (21, 25))


def test_marks_take_no_time_and_belong_to_the_word_before() -> None:
    spans = token_spans(said(*SPANS, quiet=(4, 9)), Spelling())
    well, comma, no, dash, it, self_, full_stop = spans
    assert well == pytest.approx((0, 4 * FRAME))
    assert comma == pytest.approx((well.end, well.end))
    assert no.start == pytest.approx(9 * FRAME)
    assert dash == (no.end, no.end)
    assert it.end == self_.start
    assert full_stop == (self_.end, self_.end)


def test_spans_are_in_order_and_within_the_audio() -> None:
    spans = token_spans(said(*reversed(SPANS)), Spelling())
    assert all(0 <= one.start <= one.end <= other.start for one, other in pairwise(spans))
    assert spans[-1].end <= 2.0


def test_a_transducers_times_end_with_the_sound() -> None:
    utterance = said(quiet=(5, 10))
    utterance.evidence = None
    utterance.times = [0.0, 0.3, 0.85, 1.0, 1.1, 1.3, 1.6]
    spans = token_spans(utterance, Spelling())
    assert spans[0].end == pytest.approx(5 * FRAME, abs=0.05)
    assert spans[2].start == pytest.approx(0.8, abs=0.05), "from where its sound begins"
    assert spans[4].start == pytest.approx(1.1, abs=0.05)


def test_what_was_said_before_has_its_own_part_of_the_audio() -> None:
    utterance = said(*SPANS)
    utterance.options = Options(word_times=True, draft=Draft([0, 1, 2], 3, 3, int(14 * FRAME * 16_000)))
    spans = token_spans(utterance, Spelling())
    assert spans[4].start == pytest.approx(14 * FRAME)
    assert all(one.start < one.end for one in spans[4:6])


def test_marks_alone_have_a_place() -> None:
    utterance = said((0, 25))
    utterance.tokens, utterance.evidence = [1], Evidence(np.ones((1, 25), np.float32), FRAME)
    assert token_spans(utterance, Spelling()) == [(0.0, 0.0)]


def test_evidence_is_not_kept_until_a_long_recording_ends() -> None:
    utterance = said(*SPANS)
    spans = token_spans(utterance, Spelling())
    assert (utterance.evidence, utterance.quiet) == (None, None)
    assert token_spans(utterance, Spelling()) is spans
