"""Recordings of many windows: in order, side by side, fair to others, and gone at once when they end early."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from asrloop.audio import LongAudio, Samples
from asrloop.engine.cutting import Cutting
from asrloop.engine.engine import Engine
from asrloop.engine.metrics import EngineMetrics
from asrloop.engine.options import Draft, Options
from asrloop.engine.outputs import Segment
from asrloop.engine.recording import Recording
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.engine.slots import LATER_EVERY
from asrloop.engine.utterance import Rank, Utterance
from asrloop.errors import Cancelled, DecodeFailed, InvalidAudio, Overloaded, TooLong
from asrloop.speech.pauses import spoken
from asrloop.speech.windows import Cutter, Window
from tests.conftest import eventually
from tests.engine.test_engine import WAIT, Caller, CountingFamily, counted
from tests.engine.test_scheduler import TURN_COST, utterance
from tests.speech.test_windows import recording, scripted

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
    assert not any(family.taken.values()), "the family hears of the end of every row"
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("asrloop-") and "client" not in thread.name
    ]


def cut(engine: Engine) -> dict[Recording, threading.Thread]:
    """The recordings that are being cut."""
    assert engine._work.long is not None
    return engine._work.long.threads


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
    assert (heard.complete, heard.duration) == (True, 4.75)
    assert (heard.pieces, heard.log_probs) == ([], []), "nobody asked for the times of words, and the family has none"


def test_audio_that_its_file_claims_and_does_not_have_makes_it_incomplete(
    engine: Engine, family: CountingFamily
) -> None:
    caller = Caller(engine)
    missing = [0.0]
    long = LongAudio(blocks((16_000, 1), (32_000, 1)), missing=lambda: missing[-1])
    short = np.full(16_000, 1, np.float32)
    request = Request([long, short, short], on_done=caller._done, missing_seconds=[0.0, 0.0, 2.0])
    engine.submit(request)
    missing.append(6.0)  # a file says it at its end
    caller.wait(1)
    assert [(one.complete, one.duration) for one in request.transcripts(family)] == [(False, 3), (True, 1), (False, 1)]


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
    answered = threading.Event()

    def counting() -> Iterator[Samples]:
        for number in range(20):
            read.append(number)
            if number == 19:
                assert answered.wait(WAIT), "the short request waits for the end of the recording"
            yield np.full(1_000 + number, 1, np.float32)

    start(caller, LongAudio(counting()))
    assert eventually(lambda: len(engine.scheduler.everyone()) == SLOTS // 2)
    assert not eventually(lambda: len(engine.scheduler.everyone()) > SLOTS // 2 or len(read) > SLOTS // 2 + 1, 0.2)
    short = caller.submit((8_000, 1))[0]
    family.gate.set()
    assert caller.wait(1)[0] is short
    answered.set()
    caller.wait(2)
    assert len(read) == 20


def test_progress_never_goes_back(family: CountingFamily) -> None:
    heard = Recording(LongAudio(blocks()), SECOND, Options(), whole_seconds=2.0)
    heard.audio_seconds = 36.0  # the cutter holds its last speech back
    assert heard.progress(family).done == 36.0
    heard.add(Window(34 * SECOND, np.ones(SECOND, np.float32)))
    assert heard.progress(family).done == 36.0


def test_a_second_recording_gets_half_of_the_share(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    family.gate.clear()

    def under_way() -> list[int]:
        return [sum(not one.is_finished for one in recording.utterances) for recording in cut(engine)]

    for first, share in ((1_000, [SLOTS // 2]), (2_000, [SLOTS // 2, SLOTS // 4])):
        start(caller, LongAudio(blocks(*((first + number, 1) for number in range(9)))))
        assert eventually(lambda share=share: under_way() == share)
    assert not eventually(lambda: under_way() != [SLOTS // 2, SLOTS // 4], 0.2)
    family.gate.set()
    caller.wait(2)


def test_recordings_beyond_those_that_are_cut_at_once_wait_in_line(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    family.gate.clear()
    for _ in range(2):
        start(
            caller, LongAudio(blocks(*[(1_000, 1)] * SLOTS))
        )  # more windows than have room, so that it is still being cut
    line = [start(caller, LongAudio(blocks((1_000, 1)))) for _ in range(3)]
    assert len(cut(engine)) == 2
    assert not any(request.utterances for request in line)
    family.gate.set()
    caller.wait(5)
    assert not any(request.error for request in caller.replies)


def test_of_those_in_line_the_shorter_goes_first(family: CountingFamily) -> None:
    cutting = Cutting(EveryBlock, whole_seconds=2.0, most=1)  # type: ignore[arg-type]  # as above
    engine = Engine(family, Scheduler(SLOTS, inbox=8, queue_timeout=WAIT), clock=lambda: 0.0, cutting=cutting)
    caller, read = Caller(engine), []

    def reading(seconds: float) -> Iterator[Samples]:
        read.append(seconds)
        yield np.full(1_000, 1, np.float32)

    family.gate.clear()
    start(caller, LongAudio(blocks(*[(1_000, 1)] * SLOTS)))
    for seconds in (30.0, 10.0, 20.0):
        start(caller, LongAudio(reading(seconds), seconds=seconds))
    family.gate.set()
    caller.wait(4)
    engine.close()
    assert read == [10.0, 20.0, 30.0]


def test_sixty_four_callers_with_long_pcm_are_all_answered(family: CountingFamily) -> None:
    cutting = Cutting(EveryBlock, whole_seconds=2.0)  # type: ignore[arg-type]  # as above
    engine = Engine(family, Scheduler(SLOTS, inbox=64, queue_timeout=WAIT, encoders=2), cutting=cutting)
    caller = Caller(engine)
    requests = [start(caller, np.full(3 * SECOND, 1, np.float32)) for _ in range(64)]
    caller.wait(64)
    engine.close()
    assert not [str(request.error) for request in requests if request.error]


def test_the_inbox_counts_recordings_in_line_and_the_queue_has_its_time_limit(family: CountingFamily) -> None:
    cutting = Cutting(EveryBlock, whole_seconds=2.0, most=1)  # type: ignore[arg-type]  # as above
    engine = Engine(family, Scheduler(SLOTS, inbox=2, queue_timeout=0.5), cutting=cutting)
    caller = Caller(engine)
    family.gate.clear()
    start(caller, LongAudio(blocks(*[(1_000, 1)] * SLOTS)))
    closed = [threading.Event() for _ in range(3)]
    late = [start(caller, LongAudio(blocks((1_000, 1)), close=one.set)) for one in closed[:2]]
    with pytest.raises(Overloaded, match=r"2 recordings wait already, 1 more do not fit: the inbox holds 2"):
        start(caller, LongAudio(blocks((1_000, 1)), close=closed[2].set))
    assert closed[2].is_set()
    short = start(caller, np.full(1_000, 1, np.float32))  # short audio waits in a queue of its own
    caller.wait(2)
    assert all("[overloaded] waited 0.5 s" in str(request.error) for request in late)
    assert eventually(lambda: all(one.is_set() for one in closed))
    family.gate.set()
    caller.wait(4)
    assert short.error is None
    engine.close()


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
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("asrloop-") and "client" not in thread.name
    ]


def test_requests_take_turns_however_many_windows_they_have(family: CountingFamily) -> None:
    cutting = Cutting(EveryBlock, whole_seconds=2.0, share=1.0)  # type: ignore[arg-type]  # as above
    engine = Engine(family, Scheduler(SLOTS, inbox=8, queue_timeout=WAIT), clock=lambda: 0.0, cutting=cutting)
    encoded: list[int] = []
    turn = threading.Event()
    encode = family.encode

    def slowly(samples: Samples, options: Options, *, alone: bool = False) -> tuple[int, int]:
        assert turn.wait(WAIT)
        encoded.append(samples.size)
        return encode(samples, options, alone=alone)

    family.encode = slowly  # type: ignore[method-assign]  # a family that waits until all have come
    caller = Caller(engine)
    start(caller, LongAudio(blocks((10_000, 1), (10_001, 1), (10_002, 1), (10_003, 1))))
    assert eventually(lambda: len(engine.scheduler.waiting[Rank.WINDOW]) == 3 and engine.scheduler.encoding)
    start(caller, LongAudio(blocks((10_004, 1), (10_005, 1))))
    assert eventually(lambda: len(engine.scheduler.waiting[Rank.WINDOW]) == 5)
    turn.set()
    caller.wait(2)
    engine.close()
    assert encoded == [10_000, 10_004, 10_001, 10_005, 10_002, 10_003]


def test_short_audio_does_not_stand_behind_the_windows_that_came_before_it() -> None:
    scheduler = Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=2)
    windows = [utterance(seconds=10, rank=Rank.WINDOW) for _ in range(4)]
    for each in windows:
        scheduler.add(each, each.audio_seconds * TURN_COST)
    assert scheduler.next_to_encode() is windows[0]
    assert scheduler.next_to_encode() is None, "one encoder is left to short audio"
    short = utterance()
    scheduler.add(short, TURN_COST * 15)
    assert scheduler.next_to_encode() is short


def test_windows_seldom_take_part_in_steps_while_somebody_waits_for_short_audio() -> None:
    scheduler = Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=2)
    short = utterance()
    part = utterance(seconds=10, rank=Rank.WINDOW)
    scheduler.add(part, 1.0)
    scheduler.add(short, 0.0)
    for _ in range(2):
        one = scheduler.next_to_encode()
        assert one is not None
        scheduler.encode_done(one)
    scheduler.admit(scheduler.batches[0])

    def stepped() -> set[Utterance]:
        return {one for _, one in scheduler.batches[0].next_to_step()}

    steps = [stepped() for _ in range(2 * LATER_EVERY)]
    assert all(short in rows for rows in steps)
    assert sum(part in rows for rows in steps) == 2
    scheduler.finish(short)
    assert [stepped() for _ in range(3)] == [{part}] * 3


def test_short_audio_finds_an_encoder_while_a_window_is_encoded_and_rows_are_stepped() -> None:
    scheduler = Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=2)
    windows = [utterance(seconds=10, rank=Rank.WINDOW) for _ in range(2)]
    for each in windows:
        scheduler.add(each, each.audio_seconds * TURN_COST)
    first = scheduler.next_to_encode()
    assert first is windows[0]
    scheduler.encode_done(first)
    scheduler.admit(scheduler.batches[0])
    assert scheduler.next_to_encode() is windows[1]
    short = utterance()
    scheduler.add(short, 0.0)
    assert scheduler.next_to_encode() is short


@pytest.fixture
def parting(family: CountingFamily) -> Iterator[Engine]:
    """An engine whose detector is scripted."""
    cutting = Cutting(lambda: Cutter(scripted, 10.0, 15.0), whole_seconds=15.0)
    engine = Engine(family, Scheduler(SLOTS, inbox=8, queue_timeout=WAIT, encoders=2), cutting=cutting)
    yield engine
    family.gate.set()
    engine.close()
    assert not any(family.taken.values()), "the family hears of the end of every row"


TWICE = recording(("pause", 2), ("speech", 1), ("pause", 3), ("speech", 2))


def test_a_long_pause_parts_the_segments_of_short_audio(parting: Engine, family: CountingFamily) -> None:
    caller = Caller(parting)
    request = start(caller, TWICE, recording(("speech", 2)))
    caller.wait(1)
    parted, whole = request.transcripts(family)
    first, second = parted.segments
    assert 1.6 < first.start <= 2 < 3 <= first.end < 3.4
    assert 5.6 < second.start <= 6 < 8 <= second.end <= 8.1
    assert parted.text == f"{first.text} {second.text}"
    assert [(one.start, one.end) for one in whole.segments] == [(0, 2)]
    assert request.numbers(0)[0].audio_seconds == 8


def test_words_of_a_part_lie_in_it(parting: Engine, family: CountingFamily) -> None:
    caller = Caller(parting)
    request = Request([TWICE], caller._done, options=Options(word_times=True))
    parting.submit(request)
    caller.wait(1)
    (heard,) = request.transcripts(family)
    (first, second), (one, other) = heard.segments, heard.words
    assert one.times
    assert other.times
    assert first.start <= one.times[0] <= one.times[1] <= first.end < second.start
    assert second.start <= other.times[0] <= other.times[1] <= second.end
    assert sum(utterance.audio_seconds for utterance in request.utterances) < 8


def test_live_audio_is_not_parted(parting: Engine, family: CountingFamily) -> None:
    caller = Caller(parting)
    for request in (
        Request([TWICE], caller._done, is_live=True),
        Request([TWICE], caller._done, options=Options(draft=Draft([1, 2]))),
    ):
        parting.submit(request)
    for request in caller.wait(2):
        assert len(request.utterances) == 1


def test_a_part_that_fails_fails_its_request_and_no_other(
    parting: Engine, family: CountingFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller(parting)
    second, encode = spoken(TWICE, lambda: Cutter(scripted, 10.0, 15.0)).parts[1], family.encode

    def failing(samples: Samples, *arguments: Any, **options: Any) -> tuple[int, int]:
        if samples.size == second.samples.size:
            raise ValueError("poisoned audio")
        return encode(samples, *arguments, **options)

    monkeypatch.setattr(family, "encode", failing)
    request, other = start(caller, TWICE), start(caller, recording(("speech", 2)))
    caller.wait(2)
    assert isinstance(request.error, DecodeFailed)
    assert other.error is None


def test_a_parted_request_is_cancelled_as_a_whole(parting: Engine, family: CountingFamily) -> None:
    caller = Caller(parting)
    family.gate.clear()
    request = start(caller, TWICE, key="a key of this caller")
    assert eventually(lambda: len(request.utterances) == 2)
    assert parting.cancel("a key of this caller") == 1
    caller.wait(1)
    family.gate.set()
    assert isinstance(request.error, Cancelled)
    assert eventually(lambda: parting.scheduler.is_idle)


def test_a_part_without_speech_is_no_segment(family: CountingFamily) -> None:
    cutting = Cutting(lambda: Cutter(scripted, 10.0, 15.0), whole_seconds=15.0)
    engine = Engine(
        family,
        Scheduler(SLOTS, inbox=8, queue_timeout=WAIT),
        cutting=cutting,
        has_speech=lambda samples: samples.size > 2 * SECOND,
    )
    caller = Caller(engine)
    request = start(caller, TWICE)
    caller.wait(1)
    engine.close()
    (heard,) = request.transcripts(family)
    (segment,) = heard.segments
    assert segment.start > 5, "the second part, which is longer"
    assert heard.complete


def test_parts_take_no_room_from_others_and_are_not_refused_for_waiting() -> None:
    scheduler = Scheduler(SLOTS, inbox=2, queue_timeout=WAIT, encoders=1)
    parts = [utterance() for _ in range(5)]
    for part in parts:
        part.is_part = True
        scheduler.add(part, 0.0)
    scheduler.check_room(2)
    scheduler.add(whole := utterance(), 0.0)
    assert scheduler.waited_too_long(2 * WAIT + whole.arrived_at) == [whole]
