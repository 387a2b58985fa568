"""Recordings of many windows: in order, side by side, fair to others, and gone at once when they end early."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from asrloop.audio import LongAudio, Samples
from asrloop.engine.cutting import Cutting
from asrloop.engine.engine import Engine
from asrloop.engine.metrics import EngineMetrics
from asrloop.engine.outputs import Segment
from asrloop.engine.recording import Recording
from asrloop.engine.request import Request
from asrloop.engine.scheduler import LENGTH_WEIGHT, WINDOWS_EVERY, Scheduler
from asrloop.engine.utterance import Utterance
from asrloop.errors import DecodeFailed, InvalidAudio, Overloaded, TooLong
from asrloop.speech.windows import Window
from tests.conftest import eventually
from tests.engine.test_engine import WAIT, Caller, CountingFamily, counted

SECOND = 16_000
SLOTS = 8


class EveryBlock:
    """Makes a window of every block that is not silent, half a second of pause before each."""

    def __init__(self) -> None:
        self.at = 0

    def push(self, samples: Samples) -> list[Window]:
        start, self.at = self.at, self.at + samples.size + SECOND // 2
        return [Window(start, samples)] if samples.any() else []

    def finish(self) -> list[Window]:
        return []


def blocks(*rows: tuple[int, int]) -> Iterator[Samples]:
    """A block for each length and first sample."""
    return (np.full(length, first, np.float32) for length, first in rows)


@pytest.fixture
def family() -> CountingFamily:
    return CountingFamily()


@pytest.fixture
def engine(family: CountingFamily) -> Iterator[Engine]:
    cutting = Cutting(EveryBlock, whole_seconds=2.0, share=0.5, most=2)  # type: ignore[arg-type]  # a cutter by its methods
    engine = Engine(family, Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=2), cutting=cutting)
    yield engine
    family.gate.set()
    engine.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asrloop-")]


def cut(engine: Engine) -> dict[Recording, threading.Thread]:
    """The recordings that are being cut."""
    assert engine._recordings is not None
    return engine._recordings.threads


def start(caller: Caller, *rows: LongAudio | Samples, key: str = "") -> Request:
    request = Request(rows, on_done=caller._done, key=key)
    caller.engine.submit(request)
    return request


def test_windows_are_joined_in_order_with_their_times(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    request = start(caller, LongAudio(blocks((16_000, 3), (8_000, 0), (32_000, 1), (20_000, 2))))
    caller.wait(1)
    (heard,) = request.transcripts(family)
    assert heard.tokens == [16_000, 16_001, 16_002, 32_000, 20_000, 20_001]
    assert heard.text == "16000 16001 16002 32000 20000 20001"
    assert heard.segments == [
        Segment("16000 16001 16002", 0.0, 1.0), Segment("32000", 2.5, 4.5), Segment("20000 20001", 5.0, 6.25)
    ]  # fmt: skip
    assert heard.complete


def test_long_pcm_is_cut_and_short_pcm_is_not(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    request = start(caller, np.full(3 * SECOND, 1, np.float32), np.full(2 * SECOND, 2, np.float32))
    caller.wait(1)
    long, short = request.transcripts(family)
    assert [one.end - one.start for one in long.segments] == [1.0, 1.0, 1.0]
    assert short.segments == [Segment("32000 32001", 0.0, 2.0)]


def test_silence_is_empty_and_counted(family: CountingFamily) -> None:
    published = EngineMetrics(lambda: 0)
    cutting = Cutting(EveryBlock, whole_seconds=2.0)  # type: ignore[arg-type]  # as above
    engine = Engine(family, Scheduler(SLOTS, inbox=8, queue_timeout=WAIT), published, cutting=cutting)
    caller = Caller(engine)
    request = start(caller, LongAudio(blocks((16_000, 0), (16_000, 0))))
    caller.wait(1)
    engine.close()
    (heard,) = request.transcripts(family)
    assert (heard.text, heard.segments, heard.complete) == ("", [], True)
    counts = counted(published)
    assert counts["asrloop_no_speech_total"] == 1
    assert counts["asrloop_audio_seconds_total"] == 2.0


def test_a_recording_takes_its_share_and_the_next_window_comes_when_one_is_done(
    engine: Engine, family: CountingFamily
) -> None:
    caller = Caller(engine)
    family.gate.clear()
    read: list[int] = []

    def counting() -> Iterator[Samples]:
        for number in range(20):
            read.append(number)
            yield np.full(1_000 + number, 1, np.float32)

    start(caller, LongAudio(counting()))
    assert eventually(lambda: len(engine.scheduler.everyone()) == SLOTS // 2)
    assert not eventually(lambda: len(engine.scheduler.everyone()) > SLOTS // 2 or len(read) > SLOTS // 2 + 1, 0.2)
    short = caller.submit((8_000, 1))[0]
    family.gate.set()
    assert caller.wait(1)[0] is short
    caller.wait(2)
    assert len(read) == 20


def test_a_second_recording_gets_half_of_the_share(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    family.gate.clear()
    for first in (1_000, 2_000):
        start(caller, LongAudio(blocks(*((first + number, 1) for number in range(9)))))
        assert eventually(lambda: engine.scheduler.running and not engine.scheduler.encoding)

    def under_way() -> list[int]:
        return [recording.under_way for recording in cut(engine)]

    assert eventually(lambda: under_way() == [SLOTS // 2, SLOTS // 4])
    assert not eventually(lambda: under_way() != [SLOTS // 2, SLOTS // 4], 0.2)
    family.gate.set()
    caller.wait(2)


def test_one_recording_too_many_is_refused_and_told_the_limit(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    family.gate.clear()
    for _ in range(2):
        start(
            caller, LongAudio(blocks(*[(1_000, 1)] * SLOTS))
        )  # more windows than have room, so that it is still being cut
    closed = threading.Event()
    with pytest.raises(Overloaded, match=r"2 recordings longer than 2 s .* \(windows.recordings\); retry later"):
        start(caller, LongAudio(blocks((1_000, 1)), close=closed.set))
    assert closed.is_set()
    family.gate.set()
    caller.wait(2)
    start(caller, LongAudio(blocks((1_000, 1))))
    caller.wait(3)


def test_a_window_that_fails_fails_its_request_with_its_place(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    closed = threading.Event()
    request = start(caller, LongAudio(blocks((16_000, 1), (16_000, -1), *[(16_000, 1)] * 50), close=closed.set))
    caller.wait(1)
    assert isinstance(request.error, DecodeFailed)
    assert str(request.error).startswith("[failed] 1.5 to 2.5 s: encoding failed")
    assert eventually(lambda: closed.is_set() and not cut(engine))
    assert engine.scheduler.is_idle


@pytest.mark.parametrize("error", [TooLong("audio is too long"), InvalidAudio("AUDIO is cut short"), KeyError("bug")])
def test_what_ends_the_audio_ends_the_request(engine: Engine, family: CountingFamily, error: Exception) -> None:
    def breaks() -> Iterator[Samples]:
        yield np.full(1_000, 1, np.float32)
        raise error

    caller = Caller(engine)
    request = start(caller, LongAudio(breaks()))
    caller.wait(1)
    if isinstance(error, KeyError):
        assert "cutting the recording failed: KeyError('bug')" in str(request.error)
    else:
        assert request.error is error
    caller.submit((5_000, 1))
    assert caller.wait(2)[1].error is None


def test_cancelling_in_the_middle_frees_everything(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    endless = (np.full(1_000, 5, np.float32) for _ in iter(int, 1))
    closed = threading.Event()
    request = start(caller, LongAudio(endless, seconds=7_200.0, close=closed.set), key="k" * 16)
    assert eventually(lambda: engine.progress("k" * 16)[0] > 1.0)
    done, known, text = engine.progress("k" * 16)
    assert done < known == 7_200.0
    assert text
    assert engine.cancel("k" * 16) == 1
    caller.wait(1)
    assert "[cancelled]" in str(request.error)
    assert eventually(lambda: not cut(engine))
    assert closed.is_set()
    assert engine.scheduler.is_idle
    assert engine.progress("k" * 16) == (0.0, 0.0, "")


def test_a_deadline_ends_a_recording_of_which_no_window_is_there_yet(engine: Engine) -> None:
    waiting = threading.Event()

    def slow() -> Iterator[Samples]:
        waiting.wait(WAIT)
        yield np.ones(1_000, np.float32)

    caller = Caller(engine)
    request = Request([LongAudio(slow(), close=waiting.set)], on_done=caller._done, deadline=engine.clock() + 0.1)
    engine.submit(request)
    caller.wait(1)
    assert "[deadline]" in str(request.error)
    assert eventually(lambda: not cut(engine))


def test_closing_ends_a_recording(family: CountingFamily) -> None:
    cutting = Cutting(EveryBlock, whole_seconds=2.0)  # type: ignore[arg-type]  # as above
    engine = Engine(family, Scheduler(SLOTS, inbox=8, queue_timeout=WAIT), cutting=cutting)
    caller = Caller(engine)
    request = start(caller, LongAudio(np.full(1_000, 1, np.float32) for _ in iter(int, 1)))
    assert eventually(lambda: engine.scheduler.running)
    engine.close()
    assert "[closing]" in str(request.error)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asrloop-")]


def window(request: Request, arrived_at: float = 0.0, seconds: float = 10.0) -> Utterance:
    (recording,) = request.recordings
    utterance = recording.add(Window(0, np.zeros(int(seconds * SECOND), np.float32)))
    utterance.arrived_at = arrived_at
    return utterance


def nobody(_: Request) -> None:
    """Nobody waits for the answer."""


def test_requests_take_turns_however_many_windows_they_have() -> None:
    scheduler = Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=8)
    one, other = (Request([LongAudio(iter(()))], on_done=nobody) for _ in range(2))
    windows = [window(one) for _ in range(3)] + [window(other) for _ in range(2)]
    for each in windows:
        scheduler.add(each)
    order = [scheduler.next_to_encode() for _ in range(5)]
    assert order == [windows[index] for index in (0, 3, 1, 4, 2)]


def test_short_audio_does_not_stand_behind_the_windows_that_came_before_it() -> None:
    scheduler = Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=2)
    long = Request([LongAudio(iter(()))], on_done=nobody)
    windows = [window(long) for _ in range(4)]
    for each in windows:
        scheduler.add(each)
    assert scheduler.next_to_encode() is windows[0]
    assert scheduler.next_to_encode() is None, "one encoder is left to short audio"
    (short,) = Request([np.zeros(SECOND, np.float32)], on_done=nobody).utterances
    short.arrived_at = LENGTH_WEIGHT * 15
    scheduler.submit(short)
    assert scheduler.next_to_encode() is short


def test_windows_seldom_take_part_in_steps_while_somebody_waits_for_short_audio() -> None:
    scheduler = Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=2)
    long = Request([LongAudio(iter(()))], on_done=nobody)
    (short,) = Request([np.zeros(SECOND, np.float32)], on_done=nobody).utterances
    part = window(long)
    scheduler.add(part)
    scheduler.submit(short)
    for _ in range(2):
        utterance = scheduler.next_to_encode()
        assert utterance is not None
        scheduler.encode_done(utterance)
    scheduler.admit()

    def stepped() -> set[Utterance]:
        return {utterance for _, utterance in scheduler.next_to_step()}

    steps = [stepped() for _ in range(2 * WINDOWS_EVERY)]
    assert all(short in rows for rows in steps)
    assert sum(part in rows for rows in steps) == 2
    scheduler.finish(short)
    assert [stepped() for _ in range(3)] == [{part}] * 3


def test_short_audio_finds_an_encoder_while_a_window_is_encoded_and_rows_are_stepped() -> None:
    scheduler = Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=2)
    long = Request([LongAudio(iter(()))], on_done=nobody)
    windows = [window(long) for _ in range(2)]
    for each in windows:
        scheduler.add(each)
    first = scheduler.next_to_encode()
    assert first is windows[0]
    scheduler.encode_done(first)
    scheduler.admit()
    assert scheduler.next_to_encode() is windows[1]
    (short,) = Request([np.zeros(SECOND, np.float32)], on_done=nobody).utterances
    scheduler.submit(short)
    assert scheduler.next_to_encode() is short
