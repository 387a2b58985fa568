"""What ends a segment: silence, the turn detector, the caller. Scripted voice, decoder and detector; no time passes."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from asrloop.audio import Samples
from asrloop.config import LiveSettings
from asrloop.engine.parameters import PARAMETERS
from asrloop.engine.turns import _LIMITS, NONE, SEMANTIC, SILENCE, TURNS, Turns
from asrloop.live.asking import WAITING
from asrloop.live.decodings import Question
from asrloop.live.endings import ASKS, ENDS, UNANSWERED, UNSURE_ENDS
from asrloop.live.events import Event
from asrloop.live.segmenter import FRAME, SPECULATE, Segmenter
from asrloop.speech.detector import frames_in
from tests.conftest import ROOT
from tests.live.test_segmenter import LONGEST, SECONDS, TARGET, audio, counting, finals, voice

WAIT = frames_in(4.0)


def play(
    samples: Samples,
    turns: Turns,
    judge: Callable[[Question], float] = lambda _: 0.9,
    chunk: int = 1600,
    ends_at: tuple[int, ...] = (),
) -> tuple[list[Event], int]:
    """All events of a stream, and how many questions were asked. The caller ends the segment behind samples ``ends_at``."""
    stream = Segmenter(voice, TARGET, LONGEST, turns=turns)
    events: list[Event] = []
    asked = 0

    def go_on() -> None:
        nonlocal asked
        while True:
            events.extend(stream.events())
            question, decoding = stream.question(), stream.decoding()
            if decoding is not None:
                stream.decoded(decoding, counting(decoding))
            if question is not None:
                asked += 1
                stream.answered(question, judge(question))
            if question is None and decoding is None:
                return

    for start in range(0, samples.size, chunk):
        stream.hear(samples[start : start + chunk])
        if any(start < at <= start + chunk for at in ends_at):
            stream.end_segment()
        go_on()
    stream.end()
    go_on()
    assert stream.is_finished
    return events, asked


def pauses(events: list[Event]) -> list[tuple[str, float]]:
    return [(event.stable + event.tail, event.turn) for event in events if event.pause]


@pytest.mark.parametrize("chunk", [512, 1600, 50_000])
def test_a_pause_ends_a_segment_when_the_speaker_sounds_done(chunk: int) -> None:
    events, asked = play(audio(50, 20, 50, 60), Turns(SEMANTIC, threshold=0.5), lambda _: 0.5, chunk)
    assert finals(events) == [(0, "w1 w2 w3 w4 w5"), (1, "w6 w7 w8 w9 w10")]
    assert asked == 2
    first = next(event for event in events if event.final)
    assert round(first.heard / SECONDS) == 50 + ASKS[0]
    assert first.turn == 0.5


@pytest.mark.parametrize("chunk", [512, 1600, 50_000])
def test_it_stays_open_while_more_is_to_come(chunk: int) -> None:
    turns = Turns(SEMANTIC, threshold=0.5)
    events, asked = play(audio(30, 25, 30, 60), turns, lambda question: 0.4 if question.speech_end < 60 else 0.6, chunk)
    assert finals(events) == [(0, "w1 w2 w3 w4 w5 w6")]
    assert asked == 2


def test_the_longest_pause_ends_it_whatever_the_detector_says() -> None:
    turns = Turns(SEMANTIC, longest_pause_seconds=1.0)
    events, asked = play(audio(30, 60, 30, 60), turns, lambda _: 0.0, 512)
    assert [text for _, text in finals(events)] == ["w1 w2 w3", "w4 w5 w6"]
    first = next(event for event in events if event.final)
    assert round(first.heard / SECONDS) == 30 + frames_in(1.0)
    assert asked == 2


@pytest.mark.parametrize("chunk", [512, 1600, 50_000])
def test_about_a_long_pause_it_is_asked_once_more(chunk: int) -> None:
    answers = iter([0.2, 0.6, 0.2, 0.2])
    turns = Turns(SEMANTIC, longest_pause_seconds=2.0)
    events, asked = play(audio(30, 70, 30, 100), turns, lambda _: next(answers), chunk)
    assert [round(event.heard / SECONDS) for event in events if event.final] == [
        30 + ASKS[1],
        130 + frames_in(2.0),
    ]
    assert asked == 4


def test_without_an_answer_silence_decides() -> None:
    events, _ = play(audio(50, 20, 50, 60), Turns(SEMANTIC), lambda _: UNANSWERED, 512)
    first = next(event for event in events if event.final)
    assert round(first.heard / SECONDS) == 50 + ENDS
    assert first.turn == UNANSWERED


def test_the_text_of_a_pause_is_told_as_such_and_taken_back() -> None:
    turns = Turns(SEMANTIC)
    events, _ = play(audio(30, 40, 30, 10), turns, lambda _: 0.25, 512)
    assert [turn for _, turn in pauses(events)][:2] == [UNANSWERED, 0.25]
    taken_back = next(at for at, event in enumerate(events) if event.turn == 0.25) + 1
    assert not events[taken_back].pause
    assert not events[taken_back].final
    assert events[taken_back].heard <= (30 + 40) * SECONDS, "its text is still that of the audio before"


def test_a_pause_of_the_length_that_was_asked_for_ends_a_segment() -> None:
    for frames, count in ((30, 1), (31, 2)):
        events, _ = play(audio(30, frames, 30, 60), Turns(SILENCE, silence_seconds=31 * SECONDS), chunk=512)
        assert len(finals(events)) == count


def test_only_the_caller_ends_it() -> None:
    speech = audio(30, 40, 30, 40, 30, 5)
    events, asked = play(speech, Turns(NONE), chunk=512)
    assert finals(events) == [(0, "w1 w2 w3 w4 w5 w6 w7 w8 w9")]
    assert asked == 0
    events, _ = play(speech, Turns(NONE), chunk=512, ends_at=(50 * FRAME, 52 * FRAME, 110 * FRAME))
    assert [text for _, text in finals(events)] == ["w1 w2 w3", "w4 w5 w6", "w7 w8 w9"]


@pytest.mark.parametrize("detection", [SILENCE, SEMANTIC, NONE])
def test_the_caller_ends_it_in_the_middle_of_speech(detection: str) -> None:
    events, _ = play(audio(60, 40), Turns(detection), chunk=512, ends_at=(35 * FRAME,))
    assert [text for _, text in finals(events)] == ["w1 w2 w3", "w4 w5 w6"]
    assert round(next(event for event in events if event.final).heard / SECONDS) == 35


def test_an_end_where_nothing_is_open_is_nothing() -> None:
    at = (5 * FRAME, 6 * FRAME, 60 * FRAME, 61 * FRAME)
    events, _ = play(audio(0, 20, 30, 40), Turns(), chunk=512, ends_at=at)
    assert [text for _, text in finals(events)] == ["w1 w2 w3"]


def test_without_an_end_a_segment_is_no_longer_than_a_window() -> None:
    events, _ = play(audio(*[40, 20] * 20), Turns(NONE), chunk=1600)
    starts = [(event.start, event.heard) for event in events if event.final]
    assert max(heard - start for start, heard in starts) <= LONGEST + 2 * SECONDS
    assert " ".join(text for _, text in finals(events)) == " ".join(f"w{word}" for word in range(1, 81))


def test_a_threshold_and_a_padding_of_ones_own() -> None:
    def quiet(frames: Samples) -> Samples:
        return np.full(len(frames), 0.5, np.float32)

    for threshold, begins in ((0.5, True), (0.6, False)):
        stream = Segmenter(quiet, TARGET, LONGEST, turns=Turns(speech_threshold=threshold, padding_seconds=0.0))
        stream.hear(audio(40))
        decoding = stream.decoding()
        assert (decoding is not None) == begins
        assert decoding is None or decoding.begin == 0


DEFAULTS = {
    "turn_threshold": f"{TURNS.threshold:g}",
    "longest_pause_ms": f"{1000 * TURNS.longest_pause_seconds:g}",
    "speech_threshold": f"{TURNS.speech_threshold:g}",
    "padding_ms": f"{1000 * TURNS.padding_seconds:g}",
}


@pytest.mark.parametrize("name", _LIMITS)
def test_the_docs_tell_the_limits_and_defaults_that_hold(name: str) -> None:
    docs = (ROOT / "docs" / "live.md").read_text()
    row = re.search(rf"^\| `{name}` \| \w+ \| (.+?) \| (.+?) \|", docs, re.MULTILINE)
    assert row is not None
    least, most = _LIMITS[name]
    meaning = PARAMETERS[name].meaning
    for text in (row[1], meaning):
        assert f"{least:g}..{most:g}" in text
    if name == "silence_ms":
        sure, unsure = map(int, re.findall(r"\d+", row[2]))
        assert f"by default {sure}, and {unsure} where" in meaning
        assert (frames_in(sure / 1000), frames_in(unsure / 1000)) == (ENDS, UNSURE_ENDS)
    else:
        assert row[2] == DEFAULTS[name]
        assert f"`{name}` ({row[2]})" in " ".join((ROOT / "docs" / "turns.md").read_text().split())
        assert f"by default {row[2]}" in meaning


def test_the_docs_tell_when_the_detector_is_asked() -> None:
    docs = " ".join((ROOT / "docs" / "turns.md").read_text().split())
    asked = re.search(r"after ([\d.]+) s of silence, if a model hears .*? once more after ([\d.]+) s,", docs)
    assert asked is not None
    first, again = asked.groups()
    assert (frames_in(float(first)), frames_in(float(again))) == ASKS
    assert f"when its answer takes over `live.turn_seconds` ({LiveSettings().turn_seconds:g})" in docs
    assert {3: "three more for each of these may wait"}[WAITING] in docs
    early = re.search(r"After ([\d.]+) s of silence a segment is decoded as if it were over", docs)
    assert early is not None
    assert frames_in(float(early[1])) == SPECULATE
