"""The engine's promises with a family whose answers and failures the test decides: one reply each, nobody waits for a neighbour."""

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asrloop.engine import Engine
from asrloop.errors import Cancelled, DeadlineExceeded, DecodeFailed, EngineClosed, Overloaded
from asrloop.family import Emission
from asrloop.scheduler import Scheduler
from asrloop.utterance import Utterance
from tests.conftest import eventually

WAIT = 20.0


class CountingFamily:
    """An utterance of N samples gets the tokens N, N+1, ... ; as many as its first sample says.

    A first sample of -1 makes encode raise; a token limit of 13 makes every step with that row raise.
    ``gate`` holds all steps back while it is cleared.
    """

    vocabulary_size = 1000

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.rows: dict[int, list[int]] = {}
        self.steps: list[list[int]] = []

    def encode(self, samples: NDArray[np.float32]) -> tuple[int, int]:
        if samples[0] == -1:
            raise ValueError("poisoned audio")
        return len(samples), int(samples[0])

    def admit(self, slot: int, encoded: tuple[int, int]) -> None:
        length, count = encoded
        self.rows[slot] = [length, count, 0]

    def step(self, slots: Sequence[int]) -> list[Emission]:
        assert self.gate.wait(WAIT)
        if any(self.rows[slot][1] == 13 for slot in slots):
            raise RuntimeError("poisoned row")
        self.steps.append(list(slots))
        emissions = []
        for slot in slots:
            length, count, done = self.rows[slot]
            self.rows[slot][2] += 1
            emissions.append(Emission([length + done], [], done + 1 >= count))
        return emissions

    def piece(self, token: int) -> str:
        return f" {token}"

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))


class Caller:
    """Submits utterances and keeps what comes back."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.replies: list[Utterance] = []
        self.arrived = threading.Condition()

    def utterance(
        self, length: int, count: int, deadline: float | None = None, cancelled: threading.Event | None = None
    ) -> Utterance:
        samples = np.full(length, count, np.float32)
        is_cancelled = cancelled.is_set if cancelled else lambda: False
        return Utterance(samples, on_done=self._done, is_cancelled=is_cancelled, deadline=deadline)

    def _done(self, utterance: Utterance) -> None:
        with self.arrived:
            self.replies.append(utterance)
            self.arrived.notify_all()

    def wait(self, count: int) -> list[Utterance]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.replies) >= count, WAIT)
            return list(self.replies)


@pytest.fixture
def family() -> CountingFamily:
    return CountingFamily()


@pytest.fixture
def engine(family: CountingFamily) -> Iterator[Engine]:
    engine = Engine(family, Scheduler(slots=4, inbox=8, queue_timeout=WAIT))
    yield engine
    family.gate.set()
    engine.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asrloop-")]


def test_each_utterance_gets_its_own_tokens(engine: Engine) -> None:
    caller = Caller(engine)
    crowd = [caller.utterance(length=100 * n, count=n) for n in range(1, 8)]
    engine.submit(*crowd)
    caller.wait(7)
    for n, utterance in enumerate(crowd, start=1):
        assert utterance.error is None
        assert utterance.tokens == [100 * n + k for k in range(n)]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(
        st.tuples(st.integers(1, 50), st.sampled_from([1, 2, 3, 7, 13, -1]), st.floats(0, 0.003), st.booleans()),
        min_size=1,
        max_size=24,
    )
)
def test_no_reply_is_lost_swapped_or_doubled(arrivals: list[tuple[int, int, float, bool]]) -> None:
    family = CountingFamily()
    engine = Engine(family, Scheduler(slots=4, inbox=1000, queue_timeout=WAIT))
    caller = Caller(engine)
    crowd: list[tuple[Utterance, int, int, bool]] = []
    for length, count, pause, cancel in arrivals:
        cancelled = threading.Event()
        if cancel:
            cancelled.set()
        utterance = caller.utterance(length, count, cancelled=cancelled)
        crowd.append((utterance, length, count, cancel))
        engine.submit(utterance)
        time.sleep(pause)
    replies = caller.wait(len(crowd))
    engine.close()
    assert len(caller.replies) == len(crowd) == len(set(map(id, replies)))
    for utterance, length, count, cancel in crowd:
        if isinstance(utterance.error, Cancelled):
            assert cancel
        elif count in (13, -1):
            assert isinstance(utterance.error, DecodeFailed)
        else:
            assert utterance.error is None
            assert utterance.tokens == [length + k for k in range(count)]


def test_a_newcomer_joins_while_others_are_in_mid_decode(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    family.gate.clear()
    engine.submit(caller.utterance(10, 500))
    assert eventually(lambda: engine.scheduler.running)
    engine.submit(caller.utterance(20, 2))
    assert eventually(lambda: engine.scheduler.encoded)  # its encoding did not wait for the step
    family.gate.set()
    (first,) = caller.wait(1)[:1]
    assert first.tokens == [20, 21]  # it left long before its neighbour
    assert family.steps[:3] == [[0], [0, 1], [0, 1]]


def test_a_poisoned_row_fails_alone(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    family.gate.clear()
    good = [caller.utterance(10, 5), caller.utterance(20, 5)]
    bad = [caller.utterance(30, 13), caller.utterance(40, -1)]
    engine.submit(good[0], bad[0], good[1], bad[1])
    family.gate.set()
    caller.wait(4)
    assert [utterance.tokens for utterance in good] == [[10, 11, 12, 13, 14], [20, 21, 22, 23, 24]]
    assert str(bad[0].error) == "decoding failed: poisoned row"
    assert str(bad[1].error) == "encoding failed: poisoned audio"


def test_the_inbox_limit_holds(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    family.gate.clear()
    taken = 0
    with pytest.raises(Overloaded, match=r"the inbox holds 8 \(engine.inbox\)"):  # noqa: PT012 - how many are taken first is the question
        while True:
            engine.submit(caller.utterance(10, 1))
            taken += 1
            time.sleep(0.001)
    assert 8 <= taken <= 8 + 4 + 2  # the inbox, the slots, those encoded ahead
    family.gate.set()
    assert all(utterance.error is None for utterance in caller.wait(taken))


def test_cancelling_frees_the_slot(engine: Engine, family: CountingFamily) -> None:
    caller = Caller(engine)
    cancelled = threading.Event()
    crowd = [caller.utterance(10, 10**9, cancelled=cancelled) for _ in range(4)]
    engine.submit(*crowd)
    assert eventually(lambda: len(engine.scheduler.running) == 4)
    engine.submit(caller.utterance(20, 1))
    time.sleep(0.05)
    assert not caller.replies
    cancelled.set()
    caller.wait(5)
    assert all(isinstance(utterance.error, Cancelled) for utterance in crowd)
    assert caller.replies[-1].tokens == [20] or any(utterance.tokens == [20] for utterance in caller.replies)


def test_the_callers_deadline_frees_the_slot(engine: Engine) -> None:
    caller = Caller(engine)
    late = caller.utterance(10, 10**9, deadline=engine.clock() + 0.05)
    engine.submit(late)
    caller.wait(1)
    assert isinstance(late.error, DeadlineExceeded)
    assert engine.scheduler.is_idle


def test_waiting_too_long_is_refused(family: CountingFamily) -> None:
    family.gate.clear()
    engine = Engine(family, Scheduler(slots=1, inbox=8, queue_timeout=0.05))
    caller = Caller(engine)
    engine.submit(*(caller.utterance(10, 1) for _ in range(8)))
    refused = caller.wait(1)[0]
    assert isinstance(refused.error, Overloaded)
    assert "waited 0.05 s for a slot (engine.queue_timeout_seconds)" in str(refused.error)
    family.gate.set()
    engine.close()


def test_closing_answers_everyone(family: CountingFamily) -> None:
    engine = Engine(family, Scheduler(slots=2, inbox=8, queue_timeout=WAIT))
    caller = Caller(engine)
    engine.submit(*(caller.utterance(10, 10**9) for _ in range(5)))
    engine.close()
    assert len(caller.replies) == 5
    assert all(isinstance(utterance.error, EngineClosed) for utterance in caller.replies)
    with pytest.raises(EngineClosed):
        engine.submit(caller.utterance(10, 1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the bug is let through on purpose
def test_a_bug_in_the_engine_leaves_nobody_waiting(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller(engine)
    monkeypatch.setattr(engine.scheduler, "admit", lambda: 1 / 0)
    engine.submit(caller.utterance(10, 1))
    (reply,) = caller.wait(1)
    assert isinstance(reply.error, EngineClosed)
    assert "ZeroDivisionError" in str(reply.error)
