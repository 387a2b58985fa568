"""Sentences with pauses inside are what they are said to be, and cuts, answers and arms are counted right, on invented events."""

from itertools import pairwise

import numpy as np
import pytest
from asrloop_bench.figures.live.playing import Judged, Played, judged
from asrloop_bench.figures.live.recordings import Recording
from asrloop_bench.figures.live.rounds import Round, counts_in
from asrloop_bench.figures.live.sentences import APART, EDGE, FADE, INSIDE, Cuts, Sentence, cuts_in, paused, sentence
from asrloop_bench.figures.live.turns import arms_in, report
from asrloop_bench.figures.long_recordings import Joined
from asrloop_client import StreamEvent, Word
from numpy.typing import NDArray

from asrloop.speech.detector import SpeechDetector

RATE = 16_000
RECORDING = Recording(
    Joined(np.zeros(8 * RATE, np.float32), [(0.2, 3.0), (5.0, 7.0)]),
    "one two three",
    [(1.0, 1.5), (2.0, 2.3), (6.0, 6.4)],
)


def final(heard: float, text: str = "a", start: float = 0.0) -> tuple[float, StreamEvent]:
    return heard + 0.2, StreamEvent(0, text, "", True, start, heard)


class Half(SpeechDetector):
    """Hears speech everywhere."""

    def __init__(self) -> None:
        pass

    def __call__(self, samples: NDArray[np.float32], before: object = None) -> tuple[NDArray[np.float32], object]:  # type: ignore[override]
        return np.ones(-(-samples.size // 512), np.float32), before


def test_pauses_are_put_between_words_and_far_from_the_ends() -> None:
    samples = np.ones(3 * RATE, np.float32)
    for at in (0.2, 1.0, 1.9, 2.5):
        samples[round((at - 0.015) * RATE) : round((at + 0.015) * RATE)] = 0.001
    words = [Word("a", 0.0, 0.2, 1.0), Word("b", 0.2, 0.97, 1.0), Word("c.", 1.0, 1.9, 1.0), Word("d", 1.9, 2.5, 1.0)]
    found = sentence(samples, "a b c d e", [*words, Word("e", 2.5, 3.0, 1.0)], Half())
    assert found.gaps in ([pytest.approx(1.0 * RATE, abs=160)], [pytest.approx(2.5 * RATE, abs=160)])
    assert not sentence(samples, "", [], Half()).gaps


@pytest.mark.parametrize("seed", range(8))
def test_a_sentence_with_pauses_has_all_its_samples_and_no_click(seed: int) -> None:
    samples = np.sin(np.arange(4 * RATE, dtype=np.float32) / 20) * 0.5
    gaps = [round(at * RATE) for at in (0.8, 1.0, 2.0, 3.1)]
    rng = np.random.default_rng(seed)
    found, pauses = paused(Sentence(samples, "", gaps), rng)
    assert 1 <= len(pauses) <= 2
    assert all(INSIDE[0] - 1e-3 <= end - begin <= INSIDE[1] + 1e-3 for begin, end in pauses)
    assert all(other - end >= APART - 1e-3 for (_, end), (other, _) in pairwise(pauses))
    said = np.ones(found.size, bool)
    for begin, end in pauses:
        said[round(begin * RATE) : round(end * RATE)] = False
        assert np.abs(found[round(begin * RATE) + FADE : round(end * RATE) - FADE]).max() < 0.01
    assert np.array_equal(found[said], samples)
    assert np.abs(np.diff(found)).max() < 0.04, "a step that is heard as a click"


def test_a_sentence_without_gaps_stays_as_it_is() -> None:
    samples = np.ones(RATE, np.float32)
    found, pauses = paused(Sentence(samples, "", []), np.random.default_rng(0))
    assert np.array_equal(found, samples)
    assert not pauses


@pytest.mark.parametrize(
    ("heard", "cuts"),
    [
        ([3.3, 7.3], Cuts(0, 2, 0, 3, 0)),
        ([1.3, 3.3, 7.3], Cuts(1, 2, 1, 3, 0)),
        ([1.55, 2.3, 6.2, 7.3], Cuts(2, 2, 3, 3, 0)),
        ([0.9, 1.7, 2.9], Cuts(0, 2, 0, 3, 3)),
        ([], Cuts(0, 2, 0, 3, 0)),
    ],
)
def test_cuts_are_counted_where_the_sentence_goes_on(heard: list[float], cuts: Cuts) -> None:
    assert cuts_in(Played(events=[final(at) for at in heard]), RECORDING) == cuts


def test_a_segment_without_text_cuts_nothing() -> None:
    assert cuts_in(Played(events=[final(1.3, "")]), RECORDING).sentences == 0


def test_an_end_that_was_asked_for_is_answered_by_the_next_final() -> None:
    played = Played(events=[final(1.0), final(3.0), final(3.1), final(7.0)], asked=[3.1, 5.0, 7.1], ended=8.0)
    assert judged(played, 8.0, RECORDING.joined.speech).asked == pytest.approx([3.2 - 3.1, 7.2 - 7.1])


def test_what_ends_segments_becomes_options_of_the_stream() -> None:
    assert [(one.options, one.asks) for one in arms_in("silence,silence:250,semantic,semantic:0.6,none")] == [
        ({}, False),
        ({"silence_ms": 250}, False),
        ({"turn_detection": "semantic"}, False),
        ({"turn_detection": "semantic", "turn_threshold": 0.6}, False),
        ({"turn_detection": "none"}, True),
    ]


@pytest.mark.parametrize("wrong", ["", "silence,", "sematic", "silence:0.5", "semantic:7", "none:1"])
def test_an_unknown_end_names_the_known_ones(wrong: str) -> None:
    with pytest.raises(ValueError, match="give some of silence, silence:MS"):
        arms_in(wrong)


def test_numbers_of_streams() -> None:
    assert counts_in("1,12") == [1, 12]
    with pytest.raises(ValueError, match="give whole numbers"):
        counts_in("1,0")


def test_the_table_adds_up_the_rounds() -> None:
    played = Played(events=[final(1.3, "one"), final(3.3, "two three")], late=[0.004], asked=[3.1], ended=8.0)
    verdict = Judged(first_texts=[], finals=[0.3], lag=2.5, taken_back=0, text="one two", asked=[0.1])
    one = Round([RECORDING], [played], [verdict], 0.25)
    row = report([(1, "none", [one, one])]).splitlines()[2]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "1", "none", "2 of 4", "2 of 6", "0", "300 / 300 ms (2) of 4", "100 / 100 ms (2) of 2", "33.3% of 6", "2.5 s", "2", "0",
        "0", "4 ms",
    ]  # fmt: skip


def test_edges_are_kept_free() -> None:
    words = [Word("a", 0.0, 0.25, 1.0), Word("b", 0.25, 1.0, 1.0)]
    assert EDGE > 0.25
    assert not sentence(np.ones(RATE, np.float32), "", words, Half()).gaps
