"""Streams side by side: each gets its own events in order and one end, whatever becomes of it."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from asrloop.audio import Samples
from asrloop.config import LiveSettings
from asrloop.engine.options import DEFAULTS, Options
from asrloop.engine.turns import NONE, SEMANTIC, Turns
from asrloop.errors import BadSequence, Cancelled, DecodeFailed, EngineClosed, Overloaded, RequestError
from asrloop.live.asking import WAITING, Asking, Judge
from asrloop.live.calls import Loops
from asrloop.live.decodings import Decoding, Hypothesis
from asrloop.live.endings import ASKS, UNANSWERED
from asrloop.live.events import Event
from asrloop.live.metrics import TURNS, LiveMetrics
from asrloop.live.segmenter import FILL, FRAME, Segmenter
from asrloop.live.stream import TRIES
from asrloop.live.streams import WATCH_SECONDS, Streams
from tests.conftest import eventually
from tests.live.test_segmenter import audio, counting, voice

PATIENT_SECONDS = 60.0
"""No answer of the turn detector comes too late, however busy the machine is."""

SETTINGS = LiveSettings(streams=3, turn_seconds=PATIENT_SECONDS, idle_seconds=5.0, backlog_seconds=100.0)


class Ear:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ends: list[RequestError | None] = []
        self.left = False

    def tell(self, event: Event) -> None:
        assert not self.ends
        self.events.append(event)

    def end(self, error: RequestError | None) -> None:
        self.ends.append(error)

    def has_left(self) -> bool:
        return self.left

    @property
    def text(self) -> str:
        return " ".join(event.stable for event in self.events if event.final)


Open = Callable[..., Streams]


def done(samples: Samples) -> float:
    """The speaker is done whenever there is a pause."""
    return 0.9


METRICS: dict[Streams, LiveMetrics] = {}


def outcomes(streams: Streams) -> dict[str, float]:
    """What became of the questions to the turn detector."""
    return {change.outcome: change.value for change in METRICS[streams].take() if change.spec is TURNS}


Decode = Callable[[Decoding, Options], Hypothesis]


class Clock:
    """Moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def open_streams(
    decode: Decode, settings: LiveSettings, judge: Judge = done, clock: Callable[[], float] = time.monotonic
) -> Streams:
    metrics = LiveMetrics(lambda: 0)

    def segmenter(turns: Turns) -> Segmenter:
        return Segmenter(voice, 4.0, 8.0, turns=turns)

    loops = Loops(lambda decoding, options, _: decode(decoding, options), lambda *_: None)
    streams = Streams(segmenter, loops, Asking(judge, 1, settings.turn_seconds, metrics), settings, metrics, clock)
    METRICS[streams] = metrics
    return streams


@pytest.fixture
def opened() -> Iterator[Open]:
    made: list[Streams] = []

    def make(
        decode: Callable[[Decoding], Hypothesis] = counting,
        settings: LiveSettings = SETTINGS,
        judge: Judge = done,
        clock: Callable[[], float] = time.monotonic,
    ) -> Streams:
        streams = open_streams(lambda decoding, _: decode(decoding), settings, judge, clock)
        made.append(streams)
        return streams

    yield make
    for streams in made:
        streams.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asrloop-live")]


SPEECH = audio(50, 12, 50, 60, 20)
TEXT = " ".join(f"w{word}" for word in range(1, 13))


def play(streams: Streams, key: object, samples: Samples = SPEECH, chunk: int = 1600) -> Ear:
    ear = Ear()
    streams.start(key, ear, 16_000)
    for start in range(0, samples.size, chunk):
        streams.hear(key, samples[start : start + chunk])
    streams.end(key)
    return ear


def test_each_gets_its_own_events_and_one_end(opened: Open) -> None:
    streams = opened()
    ears = [play(streams, key) for key in ("a", 7, "c")]
    assert eventually(lambda: all(ear.ends for ear in ears))
    assert [ear.ends for ear in ears] == [[None]] * 3
    assert [ear.text for ear in ears] == [TEXT] * 3
    assert len(streams) == 0
    play(streams, "a")  # a key may be used again


def test_the_order_of_requests_is_checked(opened: Open) -> None:
    streams = opened()
    with pytest.raises(BadSequence, match=r"'a' is not open: send a request with sequence_start first"):
        streams.hear("a", SPEECH)
    streams.start("a", Ear(), 16_000)
    with pytest.raises(BadSequence, match="sequence_id is missing"):
        streams.start(0, Ear(), 16_000)
    streams.hear("a", SPEECH[:100])
    streams.end("a")
    assert eventually(lambda: len(streams) == 0)
    for late in (lambda: streams.hear("a", SPEECH), lambda: streams.end("a")):
        with pytest.raises(BadSequence):
            late()


def test_two_starts_of_a_key_close_it_to_both(opened: Open) -> None:
    """Triton does not say whose a chunk is. What the first was told so far is its own, and both are told why it ends."""
    clock = Clock()
    streams = opened(settings=SETTINGS.model_copy(update={"idle_seconds": 10.0}), clock=clock)
    first, second = Ear(), Ear()
    streams.start(7, first, 16_000)
    streams.hear(7, audio(40, 20))
    with pytest.raises(BadSequence, match=r"sequence 7 is open already.* closed to both. Start again with another id"):
        streams.start(7, second, 16_000)
    for _ in range(4):  # as long as either of them sends
        with pytest.raises(BadSequence, match="closed to both"):
            streams.hear(7, audio(40, 20))
        clock.now += 9
        time.sleep(1.2 * WATCH_SECONDS)
    assert eventually(lambda: first.ends)
    assert (first.text, len(first.ends)) == ("w1 w2 w3 w4", 1)
    assert "[bad_sequence] sequence 7 is open already" in str(first.ends[0])
    with pytest.raises(BadSequence, match="closed to both"):
        streams.start(7, second, 16_000)
    assert (second.events, second.ends) == ([], [])
    clock.now += 11
    assert eventually(lambda: not streams._shared)
    assert play(streams, 7).ends in ([], [None])


def test_a_second_start_that_is_wrong_in_itself_closes_the_key_too(opened: Open) -> None:
    """Its chunks follow all the same, so the key is claimed before the rest is checked."""
    streams = opened()
    first = Ear()
    streams.claim(7)
    streams.start(7, first, 16_000)
    streams.claim(7)
    with pytest.raises(BadSequence, match="closed to both"):
        streams.hear(7, SPEECH)
    assert eventually(lambda: first.ends)
    assert first.events == []


def test_a_start_behind_the_end_of_a_stream_takes_nothing_from_it(opened: Open) -> None:
    gate = threading.Event()

    def slow(decoding: Decoding) -> Hypothesis:
        gate.wait(60)
        return counting(decoding)

    streams = opened(slow)
    first = play(streams, 7)
    with pytest.raises(BadSequence, match="sequence 7 is open already: wait for its last answer"):
        streams.start(7, Ear(), 16_000)
    with pytest.raises(BadSequence, match="was ended"):
        streams.hear(7, SPEECH)
    gate.set()
    assert eventually(lambda: first.ends)
    assert (first.text, first.ends) == (TEXT, [None])
    assert eventually(lambda: play(streams, 7).ends in ([], [None]))


def test_a_caller_that_lost_its_connection_may_start_again_at_once(opened: Open) -> None:
    streams = opened()
    gone, back = Ear(), Ear()
    streams.start(7, gone, 16_000)
    gone.left = True
    streams.start(7, back, 16_000)
    assert "[cancelled]" in str(gone.ends[0])
    streams.hear(7, SPEECH)
    streams.end(7)
    assert eventually(lambda: back.ends)
    assert (back.text, back.ends) == (TEXT, [None])


def test_one_stream_too_many_is_refused(opened: Open) -> None:
    streams = opened()
    for key in range(SETTINGS.streams):
        streams.start(f"{key}", Ear(), 16_000)
    with pytest.raises(Overloaded, match=r"3 streams are open \(live.streams\)"):
        streams.start("more", Ear(), 16_000)


def test_who_left_or_is_silent_for_too_long_is_ended(opened: Open) -> None:
    streams = opened(settings=SETTINGS.model_copy(update={"idle_seconds": 0.6}))
    left, idle = Ear(), Ear()
    streams.start("left", left, 16_000)
    streams.start("idle", idle, 16_000)
    left.left = True
    assert eventually(lambda: left.ends and idle.ends)
    assert "[cancelled]" in str(left.ends[0])
    assert "[bad_sequence] sequence 'idle' sent nothing for 0.6 s (live.idle_seconds)" in str(idle.ends[0])
    assert len(streams) == 0


def test_a_stream_that_is_far_ahead_is_ended(opened: Open) -> None:
    begun, gate = threading.Event(), threading.Event()

    def slow(decoding: Decoding) -> Hypothesis:
        begun.set()
        gate.wait(30)
        return counting(decoding)

    streams = opened(slow, SETTINGS.model_copy(update={"backlog_seconds": 5.0}))
    ear = Ear()
    streams.start("a", ear, 16_000)
    streams.hear("a", audio(40, 20))
    assert begun.wait(30)
    with pytest.raises(Overloaded, match=r"6 s ahead of its recognition \(live.backlog_seconds: 5\)"):
        streams.hear("a", np.zeros(6 * 16_000, np.float32))
    gate.set()
    assert "[overloaded]" in str(ear.ends[0])


def test_a_full_engine_is_asked_again_and_an_error_ends_one_stream(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asrloop.live.calls.PAUSE_SECONDS", 0.01)
    refused = 0

    def busy(decoding: Decoding) -> Hypothesis:
        nonlocal refused
        if refused < TRIES - 1:
            refused += 1
            raise Overloaded("no room")
        if decoding.samples.max() > 0.2005:
            raise DecodeFailed("this one fails")
        return counting(decoding)

    streams = opened(busy)
    ear = play(streams, "a", audio(30, 20))
    assert eventually(lambda: ear.ends)
    assert (ear.ends, ear.text) == ([None], "w1 w2 w3")
    other = play(streams, "b", audio(60, 20))
    assert eventually(lambda: other.ends)
    assert "[failed] this one fails" in str(other.ends[0])
    assert play(streams, "c", audio(30, 20)).ends in ([], [None])


def test_refused_partials_take_no_try_from_a_last_decoding(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asrloop.live.calls.PAUSE_SECONDS", 0.01)
    refused = {"partial": 0, "last": 0}

    def busy(decoding: Decoding) -> Hypothesis:
        kind = "partial" if decoding.over_at is None else "last"
        if kind == "partial" or refused["last"] < TRIES - 1:
            refused[kind] += 1
            raise Overloaded("no room")
        return counting(decoding)

    streams, ear = opened(busy), Ear()
    streams.start("a", ear, 16_000)
    for partials in range(1, 2 * TRIES):  # a crowd of files comes while somebody speaks
        streams.hear("a", audio(14))
        assert eventually(lambda partials=partials: refused["partial"] >= partials)
    streams.hear("a", audio(0, 20))
    streams.end("a")
    assert eventually(lambda: ear.ends)
    assert ear.ends == [None]
    assert ear.text


def test_a_bug_ends_one_stream(opened: Open) -> None:
    streams = opened(lambda _: Hypothesis(None))  # type: ignore[arg-type]  # what the bug gives
    ear = play(streams, "a")
    assert eventually(lambda: ear.ends)
    assert "[failed] the stream failed" in str(ear.ends[0])


def test_closing_ends_all(opened: Open) -> None:
    streams = opened()
    ear = Ear()
    streams.start("a", ear, 16_000)
    streams.close()
    assert isinstance(ear.ends[0], EngineClosed)
    with pytest.raises(EngineClosed):
        streams.start("b", Ear(), 16_000)


def test_other_rates_are_resampled(opened: Open) -> None:
    streams = opened(
        lambda decoding: Hypothesis([f"{(decoding.samples.size - FILL.size) // 512}"], probabilities=[1.0])
    )
    ear = Ear()
    streams.start("a", ear, 48_000)
    for _ in range(20):
        streams.hear("a", np.full(4800, 0.3, np.float32))
    streams.end("a")
    assert eventually(lambda: ear.ends)
    assert int(ear.text) == pytest.approx(20 * 1600 / 512, abs=2)


def test_every_decoding_of_a_stream_carries_what_it_was_started_with() -> None:
    asked: list[Options] = []

    def decode(decoding: Decoding, options: Options) -> Hypothesis:
        asked.append(options)
        return counting(decoding)

    streams = open_streams(decode, SETTINGS)
    one, other = Ear(), Ear()
    streams.start("de", one, 16_000, Options(language="de"))
    streams.start("plain", other, 16_000)
    for key in ("de", "plain"):
        streams.hear(key, audio(40, 40, 40, 40))
        streams.end(key)
    assert eventually(lambda: one.ends and other.ends)
    streams.close()
    assert {each.language for each in asked} == {"de", ""}
    assert all(each in (Options(language="de"), DEFAULTS) for each in asked)


def test_a_chunk_far_ahead_is_answered_when_recognition_comes_near(opened: Open) -> None:
    gate = threading.Event()

    def slow(decoding: Decoding) -> Hypothesis:
        gate.wait(60)
        return counting(decoding)

    streams = opened(slow)
    ear, answered = Ear(), list[int]()
    streams.start("a", ear, 16_000)
    for number in range(40):  # one that talks at its own speed is answered at once
        streams.hear("a", np.zeros(1600, np.float32), lambda number=number: answered.append(number))
        assert answered[-1] == number
        assert eventually(lambda number=number: streams._open["a"].recognised_seconds > number / 10 - 1)
    speech, count = audio(40, 20, 40, 20, 40, 20, 40, 20), len(answered)
    for start in range(0, speech.size, 1600):
        number = 40 + start // 1600
        streams.hear("a", speech[start : start + 1600], lambda number=number: answered.append(number))
    sent = 40 + -(-speech.size // 1600)
    assert count < len(answered) < sent - 30, "the last seconds wait"
    gate.set()
    assert eventually(lambda: len(answered) >= sent - 25)
    streams.end("a")
    assert eventually(lambda: ear.ends)
    assert answered == list(range(sent))
    assert ear.text.split()[-1] == "w16"


@pytest.mark.parametrize("way", ["backlog", "closed", "left"])
def test_chunks_of_a_stream_that_is_over_are_answered(opened: Open, way: str) -> None:
    gate, answered, ear = threading.Event(), list[int](), Ear()

    def slow(decoding: Decoding) -> Hypothesis:
        gate.wait(60)
        return counting(decoding)

    streams = opened(slow, SETTINGS.model_copy(update={"backlog_seconds": 5.0}))
    streams.start("a", ear, 16_000)
    streams.hear("a", audio(40, 20, 60), lambda: answered.append(0))
    time.sleep(0.1)
    streams.hear("a", audio(20), lambda: answered.append(1))
    assert not answered
    if way == "backlog":
        with pytest.raises(Overloaded):
            streams.hear("a", audio(200), lambda: answered.append(2))
    elif way == "left":
        ear.left = True
    else:
        threading.Timer(0.3, gate.set).start()
        streams.close()
    assert eventually(lambda: ear.ends)
    assert answered == [0, 1]
    gate.set()
    with pytest.raises(BadSequence):
        streams.hear("a", SPEECH, lambda: answered.append(3))
    assert answered == [0, 1]


def test_a_caller_that_waits_for_its_answers_is_not_idle(opened: Open) -> None:
    gate, ear = threading.Event(), Ear()

    def slow(decoding: Decoding) -> Hypothesis:
        gate.wait(60)
        return counting(decoding)

    streams = opened(slow, SETTINGS.model_copy(update={"idle_seconds": 0.5}))
    streams.start("a", ear, 16_000)
    streams.hear("a", audio(40, 20, 60, 100), lambda: None)
    time.sleep(1)
    assert not ear.ends
    gate.set()
    assert eventually(lambda: ear.ends)
    assert "sent nothing for 0.5 s" in str(ear.ends[0])


@pytest.mark.parametrize("chunk", [1600, 160_000, 10_000_000])
def test_a_recording_that_is_pushed_comes_out_whole(opened: Open, chunk: int) -> None:
    streams = opened(settings=SETTINGS.model_copy(update={"backlog_seconds": 1200.0}))
    ear = play(streams, "a", np.tile(audio(40, 20), 200), chunk)
    assert eventually(lambda: ear.ends)
    assert ear.ends == [None]
    assert ear.text == " ".join(["w1 w2 w3 w4"] * 200)


@pytest.mark.parametrize(("told", "kept"), [("", "zh"), ("de", "de")])
def test_the_language_of_the_first_sure_segment_is_that_of_the_stream(told: str, kept: str) -> None:
    """Which says "" where it is to be found: partials and unsure finals decide nothing."""
    asked: list[tuple[bool, str]] = []
    found = iter(["cy", "zh", "en"])
    confidences = iter([0.5, 0.9, 0.9])

    def decode(decoding: Decoding, options: Options) -> Hypothesis:
        is_last = decoding.over_at is not None
        asked.append((is_last, options.language))
        if not is_last:
            return Hypothesis([" w"], [1], probabilities=[0.9], language="xx")
        return Hypothesis(
            [" w"], [1], probabilities=[0.9], confidence=next(confidences, 0.9), language=next(found, "fr")
        )

    streams = open_streams(decode, SETTINGS)
    ear = Ear()
    streams.start("a", ear, 16_000, Options(language=told))
    for samples in [audio(50, 40)] * 3:
        streams.hear("a", samples)
    streams.end("a")
    assert eventually(lambda: ear.ends)
    streams.close()
    finals = [language for is_last, language in asked if is_last]
    assert finals[0] == told
    assert finals[1] == told
    assert set(finals[2:]) == {kept}
    assert len({event.segment for event in ear.events}) == 3


def semantic(streams: Streams, samples: Samples = SPEECH) -> Ear:
    ear = Ear()
    streams.start("turns", ear, 16_000, Options(turns=Turns(SEMANTIC)))
    streams.hear("turns", samples)
    streams.end("turns")
    assert eventually(lambda: ear.ends)
    assert ear.ends == [None]
    return ear


def test_the_turn_detector_hears_each_pause_of_a_stream_that_asks_for_it(opened: Open) -> None:
    heard: list[int] = []

    def judge(samples: Samples) -> float:
        heard.append(samples.size)
        return 0.75

    ear = semantic(opened(judge=judge))
    assert ear.text == TEXT
    assert next(event.turn for event in ear.events if event.final) == 0.75
    assert heard[0] == 0, "it is opened before the first pause"
    assert heard[1] == (50 + ASKS[0]) * FRAME
    play(streams := opened(judge=judge), "silence")
    streams.close()
    assert len(heard) == 3, "who does not ask for it does not pay for it"


def test_silence_decides_where_the_turn_detector_fails(opened: Open, capsys: pytest.CaptureFixture[str]) -> None:
    def judge(samples: Samples) -> float:
        raise ValueError("planted")

    streams = opened(judge=judge)
    ear = semantic(streams)
    assert ear.text == TEXT
    assert {event.turn for event in ear.events} == {UNANSWERED}
    assert capsys.readouterr().err.count("ValueError: planted") == 1
    assert outcomes(streams) == {"failed": 2}


def test_silence_decides_where_the_turn_detector_is_slow(opened: Open) -> None:
    free = threading.Event()

    def judge(samples: Samples) -> float:
        assert free.wait(120)
        return 0.9

    streams = opened(settings=SETTINGS.model_copy(update={"turn_seconds": 0.3}), judge=judge)
    ear = semantic(streams)
    free.set()
    assert ear.text == TEXT
    assert outcomes(streams) == {"busy": 2}


def test_more_questions_than_can_be_answered_in_time_are_not_asked() -> None:
    free = threading.Event()
    metrics = LiveMetrics(lambda: 0)

    def judge(samples: Samples) -> float:
        free.wait(120)
        return 0.9

    asking = Asking(judge, 1, PATIENT_SECONDS, metrics)
    waiting = [asking.begin(np.zeros(0, np.float32)) for _ in range(WAITING + 3)]
    started = time.monotonic()
    assert [answer() for answer in waiting[-2:]] == [UNANSWERED] * 2
    assert time.monotonic() - started < PATIENT_SECONDS
    free.set()
    assert [answer() for answer in waiting[:-2]] == [0.9] * (WAITING + 1)
    asking.close()
    assert asking.begin(np.zeros(0, np.float32))() == UNANSWERED


def test_a_chunk_ends_the_segment_that_it_belongs_to(opened: Open) -> None:
    streams = opened()
    ear = Ear()
    streams.start("told", ear, 16_000, Options(turns=Turns(NONE)))
    for samples in (audio(30, 3), audio(0, 20), audio(30, 3)):
        streams.hear("told", samples, ends_segment=samples[0] != 0)
    streams.end("told")
    assert eventually(lambda: ear.ends)
    assert [event.stable for event in ear.events if event.final] == ["w1 w2 w3", "w1 w2 w3"]


def test_a_decoding_that_is_not_wanted_any_more_is_ended_and_keeps_nobody_waiting() -> None:
    """A partial is under way when a pause comes, and a last decoding when speech goes on: both would take for ever."""
    ended: dict[str, threading.Event] = {}
    kinds: list[tuple[str, bool]] = []
    lock = threading.Lock()

    def decode(decoding: Decoding, options: Options, key: str) -> Hypothesis:
        is_last = decoding.over_at is not None
        with lock:
            ended[key] = threading.Event()
            kinds.append((key, is_last))
            is_stuck = len(kinds) <= 2
        if is_stuck:
            assert ended[key].wait(20), "nobody ended it"
            raise Cancelled("the caller cancelled the request")
        return counting(decoding)

    metrics = LiveMetrics(lambda: 0)
    loops = Loops(decode, lambda _, key: ended[key].set())
    streams = Streams(
        lambda turns: Segmenter(voice, 4.0, 8.0, turns=turns),
        loops,
        Asking(done, 1, PATIENT_SECONDS, metrics),
        SETTINGS,
        metrics,
    )
    ear = Ear()
    try:
        streams.start("a", ear, 16_000)
        streams.hear("a", audio(40))
        assert eventually(lambda: len(kinds) == 1)
        streams.hear("a", audio(0, 4))
        assert eventually(lambda: len(kinds) == 2)
        assert [is_last for _, is_last in kinds] == [False, True]
        streams.hear("a", audio(40, 40))
        streams.end("a")
        assert eventually(lambda: ear.ends)
    finally:
        streams.close()
    assert ear.ends == [None]
    assert ear.text, "its text came, whatever was ended"


def test_who_leaves_ends_what_is_decoded_for_them(opened: Open) -> None:
    ended: list[str] = []
    begun = threading.Event()

    def decode(decoding: Decoding, options: Options, key: str) -> Hypothesis:
        begun.set()
        assert eventually(lambda: key in ended), "nobody ended it"
        raise Cancelled("the caller cancelled the request")

    metrics = LiveMetrics(lambda: 0)
    loops = Loops(decode, lambda _, key: ended.append(key))
    streams = Streams(
        lambda _: Segmenter(voice, 4.0, 8.0), loops, Asking(done, 1, PATIENT_SECONDS, metrics), SETTINGS, metrics
    )
    ear = Ear()
    streams.start("a", ear, 16_000)
    streams.hear("a", audio(40))
    assert begun.wait(10)
    ear.left = True
    assert eventually(lambda: ended)
    streams.close()


def test_a_stream_that_waits_for_a_decoding_rests_although_more_audio_is_there() -> None:
    looked: list[float] = []
    free = threading.Event()

    class Watched(Segmenter):
        def events(self) -> list[Event]:
            looked.append(time.monotonic())
            return super().events()

    def decode(decoding: Decoding, options: Options, key: str) -> Hypothesis:
        assert free.wait(20)
        return counting(decoding)

    metrics = LiveMetrics(lambda: 0)
    loops = Loops(decode, lambda *_: None)
    streams = Streams(
        lambda _: Watched(voice, 4.0, 8.0), loops, Asking(done, 1, PATIENT_SECONDS, metrics), SETTINGS, metrics
    )
    ear = Ear()
    try:
        streams.start("a", ear, 16_000)
        for _ in range(4):
            streams.hear("a", audio(50, 700))  # nothing is decided behind the first words before their text is there
        streams.end("a")
        time.sleep(0.3)
        count = len(looked)
        time.sleep(0.5)
        assert len(looked) - count < 5
        free.set()
        assert eventually(lambda: ear.ends)
    finally:
        streams.close()
    assert len([event for event in ear.events if event.final]) == 4


def test_a_stream_that_is_over_is_given_back_at_once(opened: Open) -> None:
    asked = threading.Event()

    class Watched(Ear):
        def has_left(self) -> bool:
            asked.set()
            return False

    streams, ears = opened(), [Watched()]
    kept = weakref.ref(ears[0])
    streams.start("watched", ears[0], 16_000, Options())
    assert asked.wait(30)
    streams.end("watched")
    assert eventually(lambda: ears[0].ends)
    ears.clear()
    assert eventually(lambda: kept() is None)
