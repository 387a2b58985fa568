"""The engine's promises with a family whose answers and failures the test decides: one reply each, nobody waits for a neighbour."""

import copy
import gc
import math
import queue
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asrloop.config import Lengths
from asrloop.engine.engine import Engine
from asrloop.engine.family import NOTHING, Emission, Ended, Evidence, FamilyInfo, Word
from asrloop.engine.metrics import EngineMetrics, Publisher
from asrloop.engine.options import Options
from asrloop.engine.request import Answered, Request
from asrloop.engine.scheduler import Scheduler
from asrloop.engine.utterance import Finished
from asrloop.errors import Cancelled, DeadlineExceeded, DecodeFailed, EngineClosed, InvalidAudio, Overloaded
from asrloop.families.text.words import words_between_spaces
from tests.conftest import eventually

WAIT = 20.0


CUT = 11


class CountingFamily:
    """An utterance of N samples gets the tokens N, N+1, ... ; as many as its first sample says.

    A first sample of -1 makes encode raise; a token limit of 13 makes every step with that row raise, one of 11 is said
    to cut the row.
    ``gate`` holds all steps back while it is cleared. All batches share it, and what is noted of steps, drafts and ends.
    """

    vocabulary_size = 1000
    info = FamilyInfo(Lengths(10, 15), takes_drafts=True)

    def __init__(self) -> None:
        self.taken: dict[int, bool] = {}
        """Slots that were given to admit and not to finish since."""
        self.ended: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.rows: dict[int, list[int]] = {}
        self.steps: list[list[int]] = []
        self.drafts: list[Sequence[int]] = []
        self.batches = [self]

    def open_batch(self) -> "CountingFamily":
        batch = copy.copy(self)
        batch.taken, batch.rows = {}, {}
        self.batches.append(batch)
        return batch

    def encode(self, samples: NDArray[np.float32], options: Options, *, alone: bool = False) -> tuple[int, int]:
        if samples[0] == -1:
            raise ValueError("poisoned audio")
        return len(samples), int(samples[0])

    def admit(self, slot: int, encoded: tuple[int, int], options: Options) -> Emission:
        assert not self.taken.get(slot), "a slot is given to another only after finish"
        self.taken[slot] = True
        length, count = encoded
        self.rows[slot] = [length, count, 0]
        self.drafts.append(options.draft.tokens)
        return NOTHING

    def step(self, slots: Sequence[int]) -> list[Emission]:
        assert self.gate.wait(WAIT)
        if any(self.rows[slot][1] == 13 for slot in slots):
            raise RuntimeError("poisoned row")
        self.steps.append(list(slots))
        emissions = []
        for slot in slots:
            length, count, done = self.rows[slot]
            self.rows[slot][2] += 1
            emissions.append(
                Emission(
                    [length + done], [], done + 1 >= count, log_probs=[-1.0], cut=count == CUT and done + 1 == count
                )
            )
        return emissions

    def finish(self, slot: int, kept: Sequence[int]) -> Ended:
        assert self.taken[slot], "finish is called once for each admission"
        self.taken[slot] = False
        self.ended.append(list(kept))
        return Ended()

    def confidence(self, log_probs: Sequence[float]) -> float:
        return 1.0 + sum(log_probs) / 100

    def word_confidence(self, log_prob: float) -> float:
        return math.exp(log_prob)

    def can_write(self, term: str) -> bool:
        return True

    def piece(self, token: int) -> str:
        return f" {token}"

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))

    def words(self, tokens: Sequence[int]) -> list[Word]:
        return words_between_spaces([*map(self.piece, tokens)])


class Caller:
    """Makes requests and keeps those that were answered."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.replies: list[Request] = []
        self.arrived = threading.Condition()

    def request(self, *rows: tuple[int, int], cancelled: threading.Event | None = None, **options: Any) -> Request:
        """A request whose rows have each a length and a first sample."""
        samples = [np.full(length, count, np.float32) for length, count in rows]
        is_cancelled = cancelled.is_set if cancelled else None
        return Request(samples, on_done=self._done, is_cancelled=is_cancelled, **options)

    def submit(self, *rows: tuple[int, int], **options: Any) -> list[Request]:
        """A request of its own for each row, submitted."""
        requests = [self.request(row, **options) for row in rows]
        for request in requests:
            self.engine.submit(request)
        return requests

    def _done(self, request: Request) -> None:
        with self.arrived:
            self.replies.append(request)
            self.arrived.notify_all()

    def wait(self, count: int) -> list[Request]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.replies) >= count, WAIT)
            return list(self.replies)


def tokens(request: Request) -> list[int]:
    """Of the only row."""
    (row,) = request.utterances
    return row.tokens


@pytest.fixture
def family() -> CountingFamily:
    return CountingFamily()


@pytest.fixture(params=[1, 2], ids=lambda batches: f"{batches} batches")
def batches(request: pytest.FixtureRequest) -> int:
    """Of four slots in all."""
    number: int = request.param
    return number


@pytest.fixture
def engine(family: CountingFamily, batches: int) -> Iterator[Engine]:
    engine = Engine(family, Scheduler(slots=4 // batches, inbox=8, queue_timeout=WAIT, batches=batches))
    yield engine
    family.gate.set()
    engine.close()
    assert len(family.batches) == batches
    assert not any(any(batch.taken.values()) for batch in family.batches), "the family hears of the end of every row"
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("asrloop-") and "client" not in thread.name
    ]


def test_each_request_gets_its_own_tokens(engine: Engine) -> None:
    caller = Caller(engine)
    crowd = caller.submit(*((100 * n, n) for n in range(1, 8)))
    caller.wait(7)
    for n, request in enumerate(crowd, start=1):
        assert request.error is None
        assert tokens(request) == [100 * n + k for k in range(n)]


def test_what_was_answered_is_given_back_at_once(engine: Engine) -> None:
    """Not when Python's collector runs: until then hundreds of recordings could pile up."""
    answered = queue.SimpleQueue[weakref.ref[Request]]()
    gc.disable()
    try:
        for count in (3, -1, CUT):  # one that ends well, one that fails, one that is cut
            samples = np.full(100, count, np.float32)
            held = weakref.ref(samples)
            engine.submit(Request([samples], on_done=lambda done: answered.put(weakref.ref(done))))
            del samples
            request = answered.get(timeout=WAIT)
            engine.submit(Request([np.ones(10, np.float32)], on_done=lambda done: answered.put(weakref.ref(done))))
            answered.get(timeout=WAIT)
            assert eventually(lambda request=request, held=held: request() is None and held() is None, WAIT)
    finally:
        gc.enable()


def test_what_was_watched_is_given_back_at_once(engine: Engine, family: CountingFamily) -> None:
    asked, answered = threading.Event(), queue.SimpleQueue[weakref.ref[Request]]()

    def has_left() -> bool:
        asked.set()
        return False

    family.gate.clear()
    engine.submit(
        Request(
            [np.ones(100, np.float32)],
            on_done=lambda done: answered.put(weakref.ref(done)),
            is_cancelled=has_left,
        )
    )
    assert asked.wait(WAIT)
    family.gate.set()
    request = answered.get(timeout=WAIT)
    assert eventually(lambda: request() is None)


def test_what_was_refused_is_given_back_at_once(engine: Engine) -> None:
    gc.disable()
    try:
        samples = np.ones(10, np.float32)
        held = weakref.ref(samples)
        with pytest.raises(InvalidAudio):
            engine.submit(Request([samples] * 9, on_done=lambda _: None))
        del samples
        assert held() is None
    finally:
        gc.enable()


def test_what_was_cancelled_while_it_waited_is_given_back_at_once(engine: Engine, family: CountingFamily) -> None:
    family.gate.clear()
    caller = Caller(engine)
    caller.submit(*[(10, 1)] * 6)  # all slots, and those encoded ahead
    samples = np.ones(20, np.float32)
    held = weakref.ref(samples)
    engine.submit(Request([samples], on_done=lambda _: None, key="k" * 16))
    caller.submit((10, 1))
    del samples
    assert engine.cancel("k" * 16) == 1
    assert eventually(lambda: held() is None, WAIT)
    family.gate.set()
    caller.wait(7)


def test_samples_go_when_they_are_encoded(engine: Engine, family: CountingFamily) -> None:
    family.gate.clear()
    samples = np.full(100, 3, np.float32)
    held = weakref.ref(samples)
    caller = Caller(engine)
    engine.submit(Request([samples], on_done=caller._done))
    del samples
    assert eventually(lambda: held() is None, WAIT)
    family.gate.set()
    assert tokens(caller.wait(1)[0]) == [100, 101, 102]


def test_encoding_that_fails_after_its_request_was_cancelled(engine: Engine, family: CountingFamily) -> None:
    started, go_on = threading.Event(), threading.Event()

    def encode(samples: NDArray[np.float32], options: Options, *, alone: bool = False) -> tuple[int, int]:
        if len(samples) == 10:
            started.set()
            assert go_on.wait(WAIT)
            raise ValueError("too late")
        return len(samples), int(samples[0])

    family.encode = encode  # type: ignore[method-assign]  # a family that is slow at the wrong moment
    caller = Caller(engine)
    engine.submit(caller.request((10, 1), key="k" * 16))
    assert started.wait(WAIT)
    assert engine.cancel("k" * 16) == 1
    caller.wait(1)
    go_on.set()
    engine.submit(caller.request((20, 2)))
    assert tokens(caller.wait(2)[1]) == [20, 21]


def test_encodings_of_callers_who_left_take_up_encoders_and_no_more_threads(batches: int) -> None:
    """Nobody can end a graph that runs. Were others begun, no thread would be left for steps and answers."""
    under_way, go_on = [0], threading.Event()

    class Slow(CountingFamily):
        def encode(self, samples: NDArray[np.float32], options: Options, *, alone: bool = False) -> tuple[int, int]:
            under_way[0] += 1
            assert go_on.wait(WAIT)
            return super().encode(samples, options)

    engine = Engine(Slow(), Scheduler(slots=2, inbox=99, queue_timeout=WAIT, encoders=2, batches=batches))
    caller = Caller(engine)
    for number in range(10):
        key = f"key of caller {number:04}"
        caller.submit((10, 2), key=key)
        assert eventually(lambda number=number: under_way[0] > min(number, 1))
        time.sleep(0.05 if number > 1 else 0)  # none of these is begun
        assert engine.cancel(key) == 1
        caller.wait(number + 1)
    caller.submit((10, 2), deadline=engine.clock())
    caller.wait(11)
    assert under_way[0] == 2
    go_on.set()
    caller.submit((10, 2))
    assert tokens(caller.wait(12)[11]) == [10, 11]
    engine.close()
    assert not engine.scheduler.encoding


def test_the_rows_of_a_request_are_answered_together(engine: Engine) -> None:
    caller = Caller(engine)
    request = caller.request((10, 1), (20, 3), (30, 2))
    engine.submit(request)
    assert caller.wait(1) == [request]
    assert [heard.text for heard in request.transcripts(CountingFamily())] == ["10", "20 21 22", "30 31"]
    time.sleep(0.05)
    assert caller.replies == [request]


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(
        st.tuples(st.integers(1, 50), st.sampled_from([1, 2, 3, 7, 13, -1]), st.floats(0, 0.003), st.booleans()),
        min_size=1,
        max_size=24,
    )
)
def test_no_reply_is_lost_swapped_or_doubled(arrivals: list[tuple[int, int, float, bool]]) -> None:
    engine = Engine(CountingFamily(), Scheduler(slots=4, inbox=1000, queue_timeout=WAIT))
    caller = Caller(engine)
    crowd: list[tuple[Request, int, int, bool]] = []
    for length, count, pause, cancel in arrivals:
        cancelled = threading.Event()
        if cancel:
            cancelled.set()
        (request,) = caller.submit((length, count), cancelled=cancelled)
        crowd.append((request, length, count, cancel))
        time.sleep(pause)
    replies = caller.wait(len(crowd))
    engine.close()
    assert len(caller.replies) == len(crowd) == len(set(map(id, replies)))
    for request, length, count, cancel in crowd:
        if isinstance(request.error, Cancelled):
            assert cancel
        elif count in (13, -1):
            assert isinstance(request.error, DecodeFailed)
        else:
            assert request.error is None
            assert tokens(request) == [length + k for k in range(count)]


@pytest.mark.parametrize("batches", [1], indirect=True)
def test_a_newcomer_joins_while_others_are_in_mid_decode(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    family.gate.clear()
    caller.submit((10, 500))
    assert eventually(lambda: engine.scheduler.running)
    caller.submit((20, 2))
    assert eventually(lambda: engine.scheduler.encoded)  # its encoding did not wait for the step
    family.gate.set()
    first = caller.wait(1)[0]
    assert tokens(first) == [20, 21]  # it left long before its neighbour
    assert family.steps[:3] == [[0], [0, 1], [0, 1]]


def test_a_poisoned_row_fails_alone(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    family.gate.clear()
    good, bad, other, worse = caller.submit((10, 5), (30, 13), (20, 5), (40, -1))
    family.gate.set()
    caller.wait(4)
    assert [tokens(request) for request in (good, other)] == [[10, 11, 12, 13, 14], [20, 21, 22, 23, 24]]
    assert str(bad.error) == "[failed] decoding failed: poisoned row"
    assert str(worse.error) == "[failed] encoding failed: poisoned audio"


def test_the_first_failing_row_decides_the_answer_and_ends_its_siblings(engine: Engine) -> None:
    caller = Caller(engine)
    request = caller.request((10, 10**9), (20, -1), (30, 10**9))
    (neighbour,) = caller.submit((40, 3))
    engine.submit(request)
    caller.wait(2)
    assert str(request.error) == "[failed] encoding failed: poisoned audio"
    assert tokens(neighbour) == [40, 41, 42]
    assert eventually(lambda: engine.scheduler.is_idle)


def test_other_rates_are_resampled_before_encoding(engine: Engine) -> None:
    caller = Caller(engine)
    (request,) = caller.submit((48_000, 1), sample_rate=48_000)
    caller.wait(1)
    assert tokens(request) == [16_000]


def test_live_audio_is_taken_on_while_files_fill_the_inbox(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    family.gate.clear()
    with pytest.raises(Overloaded):  # noqa: PT012 - how many are taken first does not matter
        while True:
            caller.submit((10, 1))
    (live,) = caller.submit((20, 1), is_live=True)
    family.gate.set()
    assert eventually(lambda: live in caller.replies)
    assert (live.error, tokens(live)) == (None, [20])


def test_the_inbox_limit_holds(engine: Engine, family: CountingFamily, batches: int) -> None:
    caller = Caller(engine)
    family.gate.clear()
    taken = 0
    with pytest.raises(Overloaded, match=r"\[overloaded\] .* the inbox holds 8 \(engine.inbox\)"):  # noqa: PT012 - how many are taken first is the question
        while True:
            caller.submit((10, 1))
            taken += 1
            time.sleep(0.001)
    assert 8 <= taken <= 8 + 4 + 2 * batches  # the inbox, the slots, those encoded ahead of each batch
    family.gate.set()
    assert all(request.error is None for request in caller.wait(taken))


def test_cancelling_frees_the_slot(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    cancelled = threading.Event()
    crowd = caller.submit(*[(10, 10**9)] * 4, cancelled=cancelled)
    assert eventually(lambda: len(engine.scheduler.running) == 4)
    (waiting,) = caller.submit((20, 1))
    time.sleep(0.05)
    assert not caller.replies
    cancelled.set()
    caller.wait(5)
    assert all(isinstance(request.error, Cancelled) for request in crowd)
    assert tokens(waiting) == [20]


def test_cancelling_by_key_ends_those_with_the_key(engine: Engine) -> None:
    caller = Caller(engine)
    mine = caller.submit((10, 10**9), (10, 10**9), key="mine")
    (yours,) = caller.submit((20, 10**9), key="yours")
    assert eventually(lambda: len(engine.scheduler.running) == 3)
    assert engine.cancel("mine") == 2
    assert set(caller.wait(2)) == set(mine)
    assert yours not in caller.replies
    assert engine.cancel("mine") == 0
    assert engine.cancel("yours") == 1


def test_the_callers_deadline_frees_the_slot(engine: Engine) -> None:
    caller = Caller(engine)
    (late,) = caller.submit((10, 10**9), deadline=engine.clock() + 0.05)
    caller.wait(1)
    assert isinstance(late.error, DeadlineExceeded)
    assert engine.scheduler.is_idle


def test_waiting_too_long_is_refused(family: CountingFamily) -> None:
    family.gate.clear()
    engine = Engine(family, Scheduler(slots=1, inbox=8, queue_timeout=0.05))
    caller = Caller(engine)
    caller.submit(*[(10, 1)] * 8)
    refused = caller.wait(1)[0]
    assert isinstance(refused.error, Overloaded)
    assert "waited 0.05 s for a slot (engine.queue_timeout_seconds)" in str(refused.error)
    family.gate.set()
    engine.close()


def test_closing_answers_everyone(family: CountingFamily) -> None:
    engine = Engine(family, Scheduler(slots=2, inbox=8, queue_timeout=WAIT))
    caller = Caller(engine)
    caller.submit(*[(10, 10**9)] * 5)
    engine.close()
    assert len(caller.replies) == 5
    assert all(isinstance(request.error, EngineClosed) for request in caller.replies)
    with pytest.raises(EngineClosed):
        caller.submit((10, 1))


def test_a_bug_in_the_engine_leaves_nobody_waiting(family: CountingFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    engine = Engine(family, Scheduler(slots=4, inbox=8, queue_timeout=WAIT), on_bug=told.set)
    caller = Caller(engine)
    monkeypatch.setattr(engine.scheduler, "admit", lambda batch: 1 / 0)
    caller.submit((10, 1))
    (reply,) = caller.wait(1)
    assert isinstance(reply.error, EngineClosed)
    assert "ZeroDivisionError" in str(reply.error)
    assert told.wait(WAIT)
    with pytest.raises(EngineClosed, match="bug"):
        caller.submit((10, 1))
    engine.close()


def test_a_caller_whose_channel_raises_harms_nobody(engine: Engine) -> None:
    caller = Caller(engine)

    def broken() -> bool:
        raise RuntimeError("the channel is gone")

    odd = caller.request((10, 10**9), deadline=engine.clock() + 0.8)
    odd.is_cancelled = broken
    engine.submit(odd)
    time.sleep(0.4)  # it was asked by now
    (fine,) = caller.submit((20, 2))
    caller.wait(2)
    assert tokens(fine) == [20, 21]
    assert isinstance(odd.error, DeadlineExceeded)


def test_a_reply_that_cannot_be_sent_is_a_bug(family: CountingFamily) -> None:
    told = threading.Event()
    engine = Engine(family, Scheduler(slots=4, inbox=8, queue_timeout=WAIT), on_bug=told.set)

    def fails(request: Request) -> None:
        raise OSError("no shared memory")

    engine.submit(Request([np.full(10, 1, np.float32)], on_done=fails))
    assert told.wait(WAIT)
    engine.close()


def test_text_that_cannot_be_made_is_an_error_of_its_request(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller(engine)
    (request,) = caller.submit((10, 1))
    caller.wait(1)
    monkeypatch.setattr(CountingFamily, "text", lambda self, tokens: 1 / 0)
    result = request.result(CountingFamily())
    assert isinstance(result, DecodeFailed)
    assert "ZeroDivisionError" in str(result)


def test_a_batch_that_never_fits_is_not_told_to_retry(engine: Engine) -> None:
    caller = Caller(engine)
    with pytest.raises(
        InvalidAudio, match=r"a batch of 9 rows, or channels of rows, never fits: the inbox holds 8 .*send"
    ):
        engine.submit(caller.request(*[(10, 1)] * 9))


@pytest.mark.parametrize("key", ["", None, False, "a key of nobody's"])
def test_what_is_no_key_ends_nothing(engine: Engine, key: object) -> None:
    caller = Caller(engine)
    (request,) = caller.submit((10, 10**9))
    assert eventually(lambda: engine.scheduler.running)
    assert engine.cancel(key) == 0
    time.sleep(0.05)
    assert request not in caller.replies


def test_a_cancel_that_overtakes_its_request_reaches_it(engine: Engine) -> None:
    caller = Caller(engine)
    assert engine.cancel("k" * 16) == 0
    with pytest.raises(Cancelled):
        caller.submit((10, 1), key="k" * 16)
    (other,) = caller.submit((20, 1), key="l" * 16)
    caller.wait(1)
    assert tokens(other) == [20]


def test_remembered_cancels_are_bounded(engine: Engine) -> None:
    for number in range(3000):
        engine.cancel(f"a key of 16 or more {number}")
    assert len(engine._cancelled) == 1000


def test_counting_goes_on_after_an_error() -> None:
    values: list[float] = []
    failures = iter([True, True])

    def take(value: float) -> None:
        if next(failures, False):
            raise RuntimeError("the server process is busy")
        values.append(value)

    family = SimpleNamespace(Metric=lambda **options: SimpleNamespace(set=take, increment=take, observe=take))
    publisher = Publisher(EngineMetrics(lambda: 7), lambda spec: family)
    assert eventually(lambda: 7 in values)
    publisher.close()


def test_restarts_are_told_once_also_by_a_model_that_is_loaded_again() -> None:
    told = [0.0]
    metric = SimpleNamespace(
        set=lambda _: None, observe=lambda _: None, increment=told.append, value=lambda: float(sum(told))
    )
    family = SimpleNamespace(Metric=lambda **options: metric)
    for _ in range(2):
        Publisher(EngineMetrics(lambda: 0, restarts=3), lambda spec: family).close()
    assert sum(told) == 3


def test_metrics_are_numbers_taken_when_an_utterance_ends() -> None:
    family, published = CountingFamily(), EngineMetrics(lambda: 3)
    engine = Engine(family, Scheduler(slots=2, inbox=8, queue_timeout=WAIT), published)
    caller = Caller(engine)
    caller.submit((16_000, 2), (8_000, -1))
    caller.wait(2)
    engine.close()
    published.refused(Overloaded("no room"))
    found: dict[tuple[str, str], list[float]] = {}
    for change in published.take():
        found.setdefault((change.spec.name, change.outcome), []).append(change.value)
    assert found["asrloop_slots_in_use", ""] == [3]
    assert found["asrloop_requests_total", "ok"] == [1]
    assert found["asrloop_requests_total", "failed"] == [1]
    assert found["asrloop_requests_total", "overloaded"] == [1]
    assert found["asrloop_tokens_total", ""] == [2]
    assert found["asrloop_audio_seconds_total", ""] == [1.0]
    assert len(found["asrloop_decode_seconds", ""]) == 1
    (answered,) = found["asrloop_answer_seconds", ""]
    assert sum(found["asrloop_decode_seconds", ""] + found["asrloop_encode_seconds", ""]) <= answered < WAIT
    assert [change.spec.name for change in published.take()] == ["asrloop_slots_in_use"]


def test_a_counter_is_published_once_however_many_utterances_added_to_it() -> None:
    published = EngineMetrics(lambda: 0)
    for _ in range(3):
        published.stepped(2, 0.001)
        published.finished(Finished(tokens=4, queue_seconds=0.01))
        published.answered(Answered("ok", audio_seconds=0.5))
    changes = list(published.take())
    counters = [(change.spec.name, change.value) for change in changes if change.spec.kind == "counter"]
    assert sorted(counters) == [
        ("asrloop_audio_seconds_total", 1.5),
        ("asrloop_requests_total", 3),
        ("asrloop_steps_total", 3),
        ("asrloop_tokens_total", 12),
        ("asrloop_utterances_total", 3),
    ]
    observed = [change.spec.name for change in changes if change.spec.kind == "histogram"]
    assert sorted(observed) == ["asrloop_queue_seconds"] * 3 + ["asrloop_rows_per_step"] * 3


class RepeatingFamily(CountingFamily):
    """As many as its first sample says, over and over: one phrase of tokens N, N+1, N+2 after a token of its own."""

    def step(self, slots: Sequence[int]) -> list[Emission]:
        def phrase(token: int, length: int) -> int:
            return token if token == length else length + 1 + (token - length - 1) % 3

        return [
            one._replace(tokens=[phrase(one.tokens[0], self.rows[slot][0])], times=[one.tokens[0] - self.rows[slot][0]])
            for slot, one in zip(slots, super().step(slots), strict=True)
        ]


def counted(published: EngineMetrics) -> dict[str, float]:
    """Sums of the counters by name."""
    found: dict[str, float] = {}
    for change in published.take():
        found[change.spec.name] = found.get(change.spec.name, 0) + change.value
    return found


def test_a_row_that_repeats_itself_without_end_is_cut_to_one_occurrence_and_its_neighbour_goes_on() -> None:
    family, published = RepeatingFamily(), EngineMetrics(lambda: 0)
    engine = Engine(family, Scheduler(slots=2, inbox=8, queue_timeout=WAIT), published)
    caller = Caller(engine)
    endless = caller.request((10, 10**9), (50, 9))
    engine.submit(endless)
    caller.wait(1)
    engine.close()
    loop, neighbour = endless.utterances
    assert (loop.tokens, loop.times, len(loop.log_probs)) == ([10, 11, 12, 13], [0, 1, 2, 3], 4)
    assert neighbour.tokens == [50, 51, 52, 53, 51, 52, 53, 51, 52]
    assert [heard.complete for heard in endless.transcripts(family)] == [False, True]
    assert counted(published)["asrloop_repetition_total"] == 1


def test_a_transcript_that_was_cut_at_a_limit_says_so() -> None:
    family, published = CountingFamily(), EngineMetrics(lambda: 0)
    engine = Engine(family, Scheduler(slots=2, inbox=8, queue_timeout=WAIT), published)
    caller = Caller(engine)
    request = caller.request((100, CUT), (200, 2))
    engine.submit(request)
    caller.wait(1)
    engine.close()
    cut, whole = request.transcripts(family)
    assert (cut.complete, len(cut.tokens), cut.confidence) == (False, CUT, 1 - CUT / 100)
    assert (whole.complete, whole.confidence) == (True, 0.98)
    assert counted(published)["asrloop_token_limit_total"] == 1


def test_audio_without_speech_is_answered_empty() -> None:
    family, published = CountingFamily(), EngineMetrics(lambda: 0)
    asked: list[int] = []

    def has_speech(samples: NDArray[np.float32]) -> bool:
        asked.append(samples.size)
        return bool(samples[0] > 0)

    scheduler = Scheduler(slots=2, inbox=8, queue_timeout=WAIT)
    engine = Engine(family, scheduler, published, has_speech=has_speech)
    caller = Caller(engine)
    request = caller.request((10, 0), (20, 3), sample_rate=16_000)
    (alone,) = caller.submit((48_000, 0), sample_rate=48_000)
    engine.submit(request)
    caller.wait(2)
    assert scheduler.is_idle
    engine.close()
    assert sorted(asked) == [10, 20, 16_000]
    assert [heard.text for heard in request.transcripts(family)] == ["", "20 21 22"]
    assert alone.error is None
    assert [heard.complete for heard in alone.transcripts(family)] == [True]
    figures = counted(published)
    assert figures["asrloop_no_speech_total"] == 2
    assert figures["asrloop_requests_total"] == 3


def test_a_detector_that_fails_fails_one_request() -> None:
    def has_speech(samples: NDArray[np.float32]) -> bool:
        if samples.size == 10:
            raise RuntimeError("no ears")
        return True

    engine = Engine(CountingFamily(), Scheduler(slots=2, inbox=8, queue_timeout=WAIT), has_speech=has_speech)
    caller = Caller(engine)
    deaf, good = caller.submit((10, 2), (20, 2))
    caller.wait(2)
    engine.close()
    assert str(deaf.error) == "[failed] listening for speech failed: no ears"
    assert tokens(good) == [20, 21]


def test_whoever_is_still_listened_to_holds_no_slot_and_keeps_its_deadline() -> None:
    ears = threading.Event()

    def has_speech(samples: NDArray[np.float32]) -> bool:
        return samples.size != 10 or ears.wait(WAIT)

    scheduler = Scheduler(slots=1, inbox=8, queue_timeout=WAIT)
    engine = Engine(CountingFamily(), scheduler, has_speech=has_speech)
    caller = Caller(engine)
    impatient = caller.request((10, 2), deadline=time.monotonic() + 1.5)
    engine.submit(impatient)
    assert eventually(lambda: len(scheduler.gated) == 1 and not scheduler.running, WAIT)
    caller.wait(1)
    assert isinstance(impatient.error, DeadlineExceeded)
    (patient,) = caller.submit((10, 3))
    ears.set()
    caller.wait(2)
    assert tokens(patient) == [10, 11, 12]
    assert scheduler.is_idle
    engine.close()


def test_the_family_hears_of_every_end_with_the_tokens_that_stay() -> None:
    class Repeating(CountingFamily):
        def step(self, slots: Sequence[int]) -> list[Emission]:
            return [
                one._replace(tokens=[7]) if self.rows[slot][0] == 50 else one
                for slot, one in zip(slots, super().step(slots), strict=True)
            ]

    family = Repeating()
    engine = Engine(family, Scheduler(slots=8, inbox=8, queue_timeout=WAIT))
    caller = Caller(engine)
    caller.submit((10, 2), (20, CUT), (50, 100))
    caller.submit((30, 13))
    caller.wait(4)
    caller.submit((40, 10**9), key="k" * 16)
    assert eventually(lambda: engine.scheduler.running)
    assert engine.cancel("k" * 16) == 1
    caller.wait(5)
    caller.submit((60, 10**9))
    assert eventually(lambda: engine.scheduler.running)
    engine.close()
    assert sorted(family.ended) == [[], [], [], [7], [10, 11], list(range(20, 20 + CUT))]


def test_what_only_the_end_tells_is_in_the_transcript_and_a_failing_end_fails_its_request_alone() -> None:
    class Telling(CountingFamily):
        def finish(self, slot: int, kept: Sequence[int]) -> Ended:
            super().finish(slot, kept)
            if kept[0] == 20:
                raise RuntimeError("no alignment")
            return Ended("nl", Evidence(np.eye(len(kept), dtype=np.float32), 0.5))

    family = Telling()
    engine = Engine(family, Scheduler(slots=2, inbox=8, queue_timeout=WAIT))
    caller = Caller(engine)
    healthy, failing, late = caller.submit((16_000, 2), (20, 2), (30, 1), options=Options(word_times=True))
    caller.wait(3)
    engine.close()
    (heard,) = healthy.transcripts(family)
    assert (heard.language, heard.times) == ("nl", [0.0, 0.5])
    assert [word.times for word in heard.words] == [(0.0, 0.5), (0.5, 1.0)]
    assert "[failed] the end of decoding failed: no alignment" in str(failing.error)
    assert late.error is None
