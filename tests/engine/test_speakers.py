"""Who speaks: words get the speaker of most of their time, segments part where that changes, and the text stays as it is."""

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from asrloop.audio import LongAudio, Samples
from asrloop.engine import hearing
from asrloop.engine.attribution import Attribution, SpeakerTurn
from asrloop.engine.cutting import Cutting
from asrloop.engine.engine import Engine
from asrloop.engine.family import Emission, Ended, Evidence
from asrloop.engine.options import CHANNELS, SPEAKERS, Options
from asrloop.engine.outputs import Transcript, tensors_of
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.errors import DecodeFailed, InvalidOption
from tests.conftest import eventually
from tests.engine.test_engine import WAIT, Caller, CountingFamily
from tests.engine.test_recordings import EveryBlock, blocks

SECOND = 16_000
ASKED = Options(word_times=True, diarize=SPEAKERS)


class EvenFamily(CountingFamily):
    """Its tokens take equal parts of the audio, and each is a word."""

    def finish(self, slot: int, kept: Sequence[int]) -> Ended:
        seconds = self.rows[slot][0] / SECOND
        super().finish(slot, kept)
        frames = 10 * max(1, len(kept))
        weights = np.kron(np.eye(len(kept), dtype=np.float32), np.ones(10, np.float32))
        return Ended(evidence=Evidence(weights.reshape(len(kept), -1), seconds / frames))


class Told:
    """A diarizer that says what it is told to."""

    def __init__(self, *turns: tuple[float, float, int], error: Exception | None = None) -> None:
        self.turns = [SpeakerTurn(*turn) for turn in turns]
        self.heard = 0
        self.most: int | None = None
        self.error = error

    def __call__(self, most: int | None) -> "Told":
        self.most = most
        return self

    def hear(self, samples: Samples) -> None:
        self.heard += samples.size

    def finish(self) -> list[SpeakerTurn]:
        if self.error:
            raise self.error
        return self.turns


@pytest.fixture
def family() -> EvenFamily:
    return EvenFamily()


@pytest.fixture
def diarizer() -> Told:
    return Told((0.0, 2.0, 4), (2.0, 4.0, 7))


@pytest.fixture
def engine(family: EvenFamily, diarizer: Told) -> Iterator[Engine]:
    cutting = Cutting(EveryBlock, whole_seconds=4.0, share=0.5, most=2)  # type: ignore[arg-type]  # a cutter by its methods
    scheduler = Scheduler(4, inbox=8, queue_timeout=WAIT, encoders=2)
    engine = Engine(family, scheduler, cutting=cutting, diarizer=diarizer, has_speech=lambda _: True)
    yield engine
    engine.close()


def transcribe(engine: Engine, *rows: LongAudio | Samples, options: Options = ASKED, **more: Any) -> Transcript:
    caller = Caller(engine)
    request = Request(rows, on_done=caller._done, options=options, **more)
    engine.submit(request)
    caller.wait(1)
    if request.error:
        raise request.error
    (heard,) = request.transcripts(engine.family)
    return heard


def test_segments_part_where_the_speaker_changes(engine: Engine, diarizer: Told) -> None:
    audio = np.full(4 * SECOND, 8, np.float32)
    heard = transcribe(engine, audio, options=Options(word_times=True, diarize=SPEAKERS, speakers=3))
    assert [word.speaker for word in heard.words] == [0, 0, 0, 0, 1, 1, 1, 1], "numbered by appearance"
    assert [(one.speaker, one.start, one.end) for one in heard.segments] == [
        (0, 0.0, pytest.approx(2.0, abs=0.05)),
        (1, pytest.approx(2.0, abs=0.05), 4.0),
    ]
    assert diarizer.heard == audio.size
    assert diarizer.most == 3
    plain = transcribe(engine, audio, options=Options())
    assert plain.text == heard.text
    assert plain.tokens == heard.tokens
    assert [one.speaker for one in plain.segments] == [-1]
    outputs = tensors_of([heard])
    assert outputs["WORD_SPEAKERS"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert outputs["SEGMENT_SPEAKERS"].tolist() == [[0, 1]]
    assert outputs["SEGMENTS"].size == 2


def test_a_recording_that_is_cut_is_heard_as_it_comes(engine: Engine, diarizer: Told) -> None:
    rows = (SECOND, 2), (SECOND, 0), (2 * SECOND, 4)
    heard = transcribe(engine, LongAudio(blocks(*rows)))
    assert diarizer.heard == 4 * SECOND, "silence as well: its turns have the recording's times"
    assert [word.speaker for word in heard.words] == [0, 0, 1, 1, 1, 1]
    assert heard.text == transcribe(engine, LongAudio(blocks(*rows)), options=Options()).text


def test_whoever_says_no_word_takes_no_number(
    engine: Engine, diarizer: Told, family: EvenFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speech may be found where the model hears no word."""
    step = family.step

    def silent(slots: Sequence[int]) -> list[Emission]:
        is_silent = [family.rows[slot][1] == 9 for slot in slots]
        return [Emission([], [], True) if none else one for none, one in zip(is_silent, step(slots), strict=True)]

    monkeypatch.setattr(family, "step", silent)
    monkeypatch.setattr(family, "finish", partial(CountingFamily.finish, family))
    diarizer.turns = [SpeakerTurn(0, 1, 0), SpeakerTurn(1, 9, 1)]
    heard = transcribe(engine, LongAudio(blocks((SECOND, 9), (SECOND, 2))))
    assert [one.speaker for one in heard.segments] == [0]
    assert [word.speaker for word in heard.words] == [0, 0]


def test_without_turns_speakers_are_unknown(engine: Engine, diarizer: Told) -> None:
    diarizer.turns = []
    heard = transcribe(engine, np.full(SECOND, 3, np.float32))
    assert [word.speaker for word in heard.words] == [-1, -1, -1]
    assert [one.speaker for one in heard.segments] == [-1]


@pytest.mark.parametrize("seconds", [1, 5])
def test_a_diarizer_that_fails_fails_its_request_alone(engine: Engine, diarizer: Told, seconds: int) -> None:
    diarizer.error = RuntimeError("voices")
    audio = np.full(seconds * SECOND, 3, np.float32)
    with pytest.raises(DecodeFailed, match="telling speakers apart failed: voices"):
        transcribe(engine, audio)
    assert eventually(lambda: engine.scheduler.is_idle)
    assert transcribe(engine, audio, options=Options()).text
    assert eventually(lambda: not engine.scheduler.listening)


def test_the_answer_waits_for_who_spoke_and_a_caller_who_leaves_does_not(engine: Engine, diarizer: Told) -> None:
    held = threading.Event()
    diarizer.hear = lambda _: held.wait(WAIT)  # type: ignore[method-assign,assignment,return-value]  # stands in for long work
    caller = Caller(engine)
    requests = [
        Request([np.full(SECOND, 3, np.float32)], on_done=caller._done, options=ASKED, key=key * 16) for key in "ab"
    ]
    for request in requests:
        engine.submit(request)
    assert not eventually(lambda: caller.replies, 0.3)
    assert engine.cancel("a" * 16) == 1
    assert caller.wait(1) == [requests[0]]
    held.set()
    caller.wait(2)
    assert requests[1].error is None


def test_answers_do_not_wait_until_it_is_known_who_spoke(engine: Engine, family: EvenFamily, diarizer: Told) -> None:
    held = threading.Event()
    diarizer.hear = lambda _: held.wait(WAIT)  # type: ignore[method-assign,assignment,return-value]  # stands in for long work
    caller, encode = Caller(engine), family.encode

    def slow(samples: Samples, options: Options, *, alone: bool = False) -> tuple[int, int]:
        if samples.size == 77:
            assert held.wait(WAIT)
        return encode(samples, options, alone=alone)

    family.encode = slow  # type: ignore[method-assign]  # stands in for a large model
    family.gate.clear()
    engine.submit(caller.request((10, 3), options=ASKED))
    assert eventually(lambda: engine.scheduler.running and engine.scheduler.listening == 1)
    engine.submit(caller.request((77, 3), options=ASKED))
    assert eventually(lambda: engine.scheduler.listening == 2)
    refused = caller.request((10, 3), options=ASKED, key="k" * 16)
    engine.submit(refused)
    engine.cancel("k" * 16)
    assert caller.wait(1) == [refused]
    held.set()
    family.gate.set()
    caller.wait(3)


def test_live_audio_does_not_wait_until_it_is_known_who_spoke(engine: Engine, diarizer: Told) -> None:
    held = threading.Event()
    diarizer.hear = lambda _: held.wait(WAIT)  # type: ignore[method-assign,assignment,return-value]  # stands in for long work
    caller = Caller(engine)
    for _ in range(4):
        engine.submit(caller.request((10, 3), options=ASKED))
    assert eventually(lambda: engine.scheduler.listening >= 2)
    live = caller.request((10, 3), is_live=True)
    engine.submit(live)
    assert caller.wait(1) == [live]
    held.set()
    caller.wait(5)


def test_nobody_waits_without_end_for_who_spoke(
    engine: Engine, diarizer: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    diarizer.hear = lambda _: held.wait(WAIT)  # type: ignore[method-assign,assignment,return-value]  # stands in for long work
    monkeypatch.setattr(hearing, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(
        DecodeFailed, match=r"telling speakers apart failed: a block was not heard for 0\.05 s; send it again"
    ):
        transcribe(engine, np.full(5 * SECOND, 3, np.float32))
    held.set()


def test_what_cannot_be_asked_is_refused_at_once(family: EvenFamily) -> None:
    def missing(_: int | None) -> Told:
        raise FileNotFoundError("speaker_embedding.onnx is missing; make it with `asrloop models`")

    for opener, reason in ((None, "does not tell speakers apart"), (missing, "make it with `asrloop models`")):
        engine = Engine(family, Scheduler(2, inbox=8, queue_timeout=WAIT), diarizer=opener)
        with pytest.raises(InvalidOption, match=f"diarize is true: .*{reason}"):
            transcribe(engine, np.full(SECOND, 3, np.float32))
        assert transcribe(engine, np.full(SECOND, 3, np.float32), options=Options()).text
        engine.close()


def test_channels_are_speakers_and_are_merged_by_time(engine: Engine) -> None:
    options = Options(word_times=True, diarize=CHANNELS)
    left = LongAudio(blocks((SECOND, 2), (2 * SECOND, 0), (SECOND, 3)))
    right = LongAudio(blocks((SECOND, 0), (SECOND + 1, 4), (SECOND, 0)))
    heard = transcribe(engine, left, right, options=options, channels=[2])
    assert [(one.speaker, one.text) for one in heard.segments] == [
        (0, "16000 16001"),
        (1, "16001 16002 16003 16004"),
        (0, "16000 16001 16002"),
    ]
    assert [word.speaker for word in heard.words] == [0, 0, 1, 1, 1, 1, 0, 0, 0]
    assert heard.text == "16000 16001 16001 16002 16003 16004 16000 16001 16002"
    assert heard.duration == 4.0
    assert heard.complete


def test_words_of_channels_that_speak_at_once_follow_their_segments(engine: Engine) -> None:
    """So whoever reads both knows the words of each segment."""
    left, right = LongAudio(blocks((2 * SECOND, 3))), LongAudio(blocks((SECOND // 4, 0), (SECOND, 2)))
    heard = transcribe(engine, left, right, options=Options(word_times=True, diarize=CHANNELS), channels=[2])
    assert [(one.speaker, len(one.text.split())) for one in heard.segments] == [(0, 3), (1, 2)]
    assert [word.speaker for word in heard.words] == [0, 0, 0, 1, 1]
    times = [word.times for word in heard.words if word.times]
    assert times[2] > times[3], "the last word of the one is behind the first of the other"


def test_progress_of_channels_is_that_of_the_recording(family: EvenFamily) -> None:
    """A caller shows it as time, and takes the text for what will not change."""
    options = Options(word_times=True, diarize=CHANNELS)
    silence = np.zeros(2 * SECOND, np.float32)
    two = Request([silence, silence], on_done=lambda _: None, options=options, channels=[2])
    one = Request([silence, silence], on_done=lambda _: None)
    for request in (two, one):
        request.divide(4.0)
    assert (two.progress(family).known, one.progress(family).known) == (2.0, 4.0)


def test_a_channel_that_is_silent_says_nothing(engine: Engine) -> None:
    options = Options(word_times=True, diarize=CHANNELS)
    left, right = (LongAudio(blocks((SECOND, count))) for count in (0, 2))
    heard = transcribe(engine, left, right, options=options, channels=[2])
    assert [one.speaker for one in heard.segments] == [1]


def test_a_word_is_whose_it_is_for_most_of_its_time_or_the_nearest() -> None:
    turns = [SpeakerTurn(0, 1, 5), SpeakerTurn(0.9, 3, 2), SpeakerTurn(10, 11, 5)]
    who = Attribution(turns)
    assert who.speaker(2.0, 2.5) == 0
    assert who.speaker(0.5, 1.2) == 1
    assert who.speaker(0.9, 1.05) == 0
    assert who.speaker(4.0, 4.5) == 0, "nobody speaks: the turn before is nearer"
    assert who.speaker(9.0, 9.5) == 1
    assert Attribution([]).speaker(0, 1) == -1


class Walked(list[SpeakerTurn]):
    """Turns that know how often somebody went through all of them."""

    walks = 0

    def __iter__(self) -> Iterator[SpeakerTurn]:
        self.walks += 1
        return super().__iter__()


def test_a_word_is_not_compared_with_all_turns_and_gets_the_same_speaker() -> None:
    """Where turns are missed in a recording of hours, it would take many seconds in which nobody is answered."""
    random = np.random.default_rng(0)
    for _ in range(100):
        starts = np.sort(random.integers(0, 30, 6)).tolist()
        turns = Walked(SpeakerTurn(start, start + int(random.integers(1, 9)), at) for at, start in enumerate(starts))
        spans = [(start, start + length) for start in range(40) for length in (0, 1, 5)]
        numbers: dict[int, int] = {}
        expected = [numbers.setdefault(_speaker_among_all(turns, *span), len(numbers)) for span in spans]
        who = Attribution(turns)
        walks = turns.walks
        assert [who.speaker(*span) for span in spans] == expected
        assert turns.walks == walks


def _speaker_among_all(turns: list[SpeakerTurn], start: float, end: float) -> int:
    shared = [max(0, min(end, turn.end) - max(start, turn.start)) for turn in turns]
    away = [max(turn.start - end, start - turn.end) for turn in turns]
    return turns[shared.index(max(shared)) if any(shared) else away.index(min(away))].speaker
