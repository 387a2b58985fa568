"""A family may ask for an utterance to be decoded once more: once only, unseen by its caller, who may still leave."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop.engine.engine import Engine
from asrloop.engine.family import Ended
from asrloop.engine.metrics import EngineMetrics
from asrloop.engine.options import Options
from asrloop.engine.scheduler import Scheduler
from asrloop.errors import Cancelled, DeadlineExceeded, DecodeFailed
from tests.conftest import eventually
from tests.engine.test_engine import WAIT, Caller, CountingFamily, tokens

MORE = 500
"""Added to the tokens of the second decoding."""


@dataclass
class DoubtfulFamily(CountingFamily):
    """Asks for every utterance once more, each time that it ends."""

    encoded_again: list[int] = field(default_factory=list)
    may_encode_again: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        CountingFamily.__init__(self)
        self.may_encode_again.set()

    def encode(  # type: ignore[override]
        self, samples: NDArray[np.float32], options: Options, *, alone: bool = False, again: bool = False
    ) -> tuple[int, int]:
        if again:
            assert self.may_encode_again.wait(WAIT)
            self.encoded_again.append(len(samples))
        length, count = super().encode(samples, options, alone=alone)
        return length + MORE * again, count

    def finish(self, slot: int, kept: Sequence[int]) -> Ended:
        length, count, _ = self.rows[slot]
        super().finish(slot, kept)
        return Ended(again=np.full(length % MORE, count, np.float32))


def started(family: DoubtfulFamily, **options: Any) -> Engine:
    return Engine(family, Scheduler(slots=2, inbox=2, queue_timeout=WAIT), **options)


def test_an_utterance_is_decoded_once_more_and_no_third_time() -> None:
    family = DoubtfulFamily()
    metrics = EngineMetrics(lambda: 0)
    engine = started(family, observer=metrics)
    caller = Caller(engine)
    try:
        requests = [*caller.submit((100, 3)), *caller.submit((200, 2))]
        caller.wait(2)
    finally:
        engine.close()
    assert [tokens(request) for request in requests] == [[600, 601, 602], [700, 701]]
    assert sorted(family.encoded_again) == [100, 200]
    counted = {change.spec.name: change.value for change in metrics.take()}
    assert (counted["asrloop_utterances_total"], counted["asrloop_decoded_again_total"]) == (2, 2)
    assert counted["asrloop_tokens_total"] == 5


@pytest.mark.parametrize("has_speech", [True, False])
def test_the_speech_gate_is_heard_first(has_speech: bool) -> None:
    family = DoubtfulFamily()
    answer, asked = threading.Event(), []

    def gate(samples: NDArray[np.float32]) -> bool:
        asked.append(samples.size)
        assert answer.wait(WAIT)
        return has_speech

    engine = started(family, has_speech=gate)
    caller = Caller(engine)
    try:
        (request,) = caller.submit((100, 3))
        assert eventually(lambda: family.ended, WAIT)
        assert not family.encoded_again
        answer.set()
        caller.wait(1)
    finally:
        answer.set()
        engine.close()
    assert tokens(request) == ([600, 601, 602] if has_speech else [])
    assert len(family.encoded_again) == has_speech
    assert asked == [100]


def test_others_fill_the_inbox_meanwhile() -> None:
    family = DoubtfulFamily()
    family.may_encode_again.clear()
    engine = started(family)
    caller = Caller(engine)
    try:
        first = caller.submit((100, 1))
        assert eventually(lambda: family.ended, WAIT)
        others = caller.submit((200, 1), (300, 1))
        family.may_encode_again.set()
        caller.wait(3)
    finally:
        family.may_encode_again.set()
        engine.close()
    assert [tokens(request) for request in [*first, *others]] == [[600], [700], [800]]


@pytest.mark.parametrize("way", ["cancelled", "late"])
def test_a_caller_may_leave_meanwhile(way: str) -> None:
    family = DoubtfulFamily()
    family.may_encode_again.clear()
    metrics = EngineMetrics(lambda: 0)
    engine = started(family, observer=metrics)
    caller = Caller(engine)
    try:
        options = {"key": "mine"} if way == "cancelled" else {"deadline": engine.clock() + 0.5}
        (request,) = caller.submit((100, 3), **options)
        assert eventually(lambda: family.ended, WAIT)
        if way == "cancelled":
            assert engine.cancel("mine") == 1
        caller.wait(1)
        assert isinstance(request.error, Cancelled if way == "cancelled" else DeadlineExceeded)
        assert all(change.value >= 0 for change in metrics.take()), (
            "the moments of the first decoding are mixed up with these"
        )
        family.may_encode_again.set()
        (next_one,) = caller.submit((300, 1))
        caller.wait(2)
        assert tokens(next_one) == [800]
    finally:
        family.may_encode_again.set()
        engine.close()


def test_a_failure_costs_that_request_alone() -> None:
    family = DoubtfulFamily()

    def encode(samples: NDArray[np.float32], options: Options, *, alone: bool = False, again: bool = False) -> Any:
        if again and samples.size == 100:
            raise RuntimeError("out of memory")
        return DoubtfulFamily.encode(family, samples, options, alone=alone, again=again)

    family.encode = encode  # type: ignore[method-assign]
    engine = started(family)
    caller = Caller(engine)
    try:
        first, other = [*caller.submit((100, 3)), *caller.submit((200, 2))]
        caller.wait(2)
        (third,) = caller.submit((300, 1))
        caller.wait(3)
    finally:
        engine.close()
    assert isinstance(first.error, DecodeFailed)
    assert "out of memory" in str(first.error)
    assert [tokens(other), tokens(third)] == [[700, 701], [800]]


def test_progress_shows_nothing_of_the_first_tokens() -> None:
    family = DoubtfulFamily()
    family.may_encode_again.clear()
    engine = started(family)
    caller = Caller(engine)
    try:
        caller.submit((100, 3), key="mine")
        assert eventually(lambda: family.ended, WAIT)
        assert engine.progress("mine").text == ""
        family.may_encode_again.set()
        (request,) = caller.wait(1)
    finally:
        family.may_encode_again.set()
        engine.close()
    assert tokens(request) == [600, 601, 602]
