"""Times of words are laid over what was heard: marks take none, pauses are left out, whatever the family gives."""

from itertools import pairwise

import numpy as np
import pytest

from asrloop.audio import LongAudio
from asrloop.engine.family import Evidence
from asrloop.engine.options import Draft, Options
from asrloop.engine.outputs import Segment, Transcript
from asrloop.engine.recording import Recording
from asrloop.engine.transcribing import transcript
from asrloop.engine.utterance import Span, State, Utterance
from asrloop.engine.word_times import token_spans
from asrloop.families.text.words import words_between_spaces
from asrloop.speech.silence import STEP_SECONDS
from asrloop.speech.windows import Window
from tests.engine.test_engine import CountingFamily

PIECES = ["Well", ",", " no", " -", " it", "self", "."]
FRAME = 10 * STEP_SECONDS


class Spelling(CountingFamily):
    """A token is a place in PIECES."""

    def piece(self, token: int) -> str:
        return PIECES[token]

    def words(self, tokens):  # type: ignore[no-untyped-def]
        return words_between_spaces([*map(self.piece, tokens)])

    def text(self, tokens):  # type: ignore[no-untyped-def]
        return "".join(map(self.piece, tokens)).strip()


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


def test_frames_beyond_the_audio_are_left_out() -> None:
    utterance = said(*SPANS)
    utterance.audio_seconds = 1.5  # the frames go to 2 s
    spans = token_spans(utterance, Spelling())
    assert all(0 <= one.start <= one.end <= other.start for one, other in pairwise(spans))
    assert spans[-1].end == 1.5


def test_words_share_a_moment_that_is_too_short_for_them() -> None:
    utterance = said(*SPANS)
    utterance.options = Options(word_times=True, draft=Draft([0, 1, 2], 3, 3, 31_000))
    spans = token_spans(utterance, Spelling())[3:]
    assert all(1.9 < one.start <= one.end <= other.start for one, other in pairwise(spans))
    assert spans[-1].end <= 2.0


def test_marks_alone_have_a_place() -> None:
    utterance = said((0, 25))
    utterance.tokens, utterance.evidence = [1], Evidence(np.ones((1, 25), np.float32), FRAME)
    assert token_spans(utterance, Spelling()) == [(0.0, 0.0)]


def test_evidence_is_not_kept_until_a_long_recording_ends() -> None:
    utterance = said(*SPANS)
    spans = token_spans(utterance, Spelling())
    assert (utterance.evidence, utterance.quiet) == (None, None)
    assert token_spans(utterance, Spelling()) is spans


def windows(*kept: tuple[list[int], list[Span]]) -> Transcript:
    """The transcript of windows of 10 s, each with 3 s of the one before: the tokens of each, and when they were said."""
    recording = Recording(LongAudio(iter(())), 16_000, Options(word_times=True), 15.0)
    for number, (tokens, spans) in enumerate(kept):
        utterance = recording.add(Window(number * 112_000, np.zeros(160_000, np.float32), 48_000 if number else 0))
        utterance.tokens, utterance.spans, utterance.log_probs = tokens, spans, [-0.1] * len(tokens)
        utterance.state = State.FINISHED
    return transcript([recording], Spelling())


@pytest.mark.parametrize("behind", [0.4, 1.2, 2.5])
def test_words_of_windows_that_overlap_do_not(behind: float) -> None:
    """The words' seam lies anywhere in what both heard, and the second window may hear a word begin earlier."""
    first = [Span(1, 2), Span(2, 2), Span(7.0 + behind, 7.3 + behind), Span(7.3 + behind, 9.9)]
    second = [Span(behind, behind + 0.2), Span(behind + 0.2, behind + 0.5), Span(behind + 0.5, behind + 0.5)]
    heard = windows(([0, 1, 2, 4], first), ([2, 4, 6], second))
    assert [(segment.text, segment.start, segment.end) for segment in heard.segments] == [
        ("Well, no", 0.0, pytest.approx(7.25 + behind)), ("it.", pytest.approx(7.25 + behind), 17.0)
    ]  # fmt: skip
    well, no, it = [word.times for word in heard.words]
    assert well == (1, 2)
    assert no == pytest.approx((7.0 + behind, 7.25 + behind))
    assert it == pytest.approx((7.25 + behind, 7.5 + behind))


def test_words_of_windows_that_heard_different_things_keep_their_order_and_some_time() -> None:
    """Such as two voices at once: a word that both heard joins them, and each goes on where the other begins."""
    first = [Span(1, 2), Span(2, 2), Span(8, 8.5), Span(8.5, 9.9)]
    second = [Span(0.1, 0.2), Span(0.2, 0.6), Span(0.6, 1.0)]
    heard = windows(([0, 1, 4, 2], first), ([2, 4, 5], second))
    times = [edge for word in heard.words for edge in word.times or ()]
    assert times == sorted(times)
    assert all(word.times and word.times[0] < word.times[1] for word in heard.words)


def test_the_seam_stays_in_the_middle_where_no_word_is() -> None:
    heard = windows(([0, 4], [Span(1, 2), Span(9, 9)]), ([2, 4, 5], [Span(0, 1), Span(4, 5), Span(5, 6)]))
    assert heard.segments == [Segment("Well", 0, 8.5), Segment("itself", 8.5, 17)]


def test_a_window_that_is_filled_up_has_no_words_there() -> None:
    recording = Recording(LongAudio(iter(())), 16_000, Options(word_times=True), 15.0)
    utterance = recording.add(Window(16_000, np.zeros(32_000, np.float32), filling=320))
    utterance.tokens, utterance.log_probs, utterance.state = [0], [-0.1], State.FINISHED
    utterance.evidence = Evidence(np.ones((1, 100), np.float32), 0.02)
    heard = transcript([recording], Spelling())
    assert heard.segments == [Segment("Well", 1, pytest.approx(2.98))]
    assert heard.words[0].times == pytest.approx((1, 2.98))


def test_a_segment_holds_its_words() -> None:
    """Its bounds are found by the level, which may miss a faint word."""
    recording = Recording(np.zeros(160_000, np.float32), 16_000, Options(word_times=True), 15.0)
    (utterance,) = recording.utterances
    utterance.tokens, utterance.spans, utterance.log_probs = [0], [Span(1, 2)], [-0.1]
    utterance.spoken, utterance.state = (1.5, 1.8), State.FINISHED
    assert transcript([recording], Spelling()).segments == [Segment("Well", 1, 2)]
