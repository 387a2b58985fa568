"""What the engine does with drafts: each row's reaches the family, and what that decides at once counts as if it was stepped."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from asrloop.config import AudioSettings, Lengths
from asrloop.engine.cutting import Cutting
from asrloop.engine.engine import Engine
from asrloop.engine.family import Emission, FamilyInfo
from asrloop.engine.inputs import draft_of, request_of
from asrloop.engine.metrics import EngineMetrics
from asrloop.engine.options import NO_DRAFT, Draft, Options
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.errors import InvalidOption
from asrloop.speech.windows import Cutter
from tests.conftest import eventually
from tests.engine.test_engine import WAIT, Caller, CountingFamily, counted, tokens


def drafted(*tokens: int, forced: int = 0, before: int = 0) -> Options:
    return Options(draft=Draft(list(tokens), forced, before))


class CheckingFamily(CountingFamily):
    """Decides as many tokens of a draft as it likes itself; above 1000 it likes only 1000, over and over.

    A draft that begins with -1 makes admit raise.
    """

    def admit(self, slot: int, encoded: tuple[int, int], options: Options) -> Emission:
        super().admit(slot, encoded, options)
        draft = options.draft.tokens
        if list(draft[:1]) == [-1]:
            raise ValueError("poisoned draft")
        length, count = encoded
        right = options.draft.forced
        while right < min(count, len(draft)) and draft[right] in (length + right, 1000):
            right += 1
        self.rows[slot][2] = right
        return Emission(draft[:right], [], done=right >= count, log_probs=[-1.0] * right)


@pytest.fixture
def family() -> CheckingFamily:
    return CheckingFamily()


@pytest.fixture
def metrics() -> EngineMetrics:
    return EngineMetrics(lambda: 0)


@pytest.fixture
def engine(family: CheckingFamily, metrics: EngineMetrics) -> Iterator[Engine]:
    engine = Engine(family, Scheduler(slots=4, inbox=8, queue_timeout=WAIT), metrics)
    yield engine
    engine.close()


def test_each_row_has_its_draft_and_only_the_rest_is_stepped(
    engine: Engine, family: CheckingFamily, metrics: EngineMetrics
) -> None:
    caller = Caller(engine)
    one = caller.request((10, 5), options=drafted(10, 11, 12, 99))
    other = caller.request((20, 3), options=drafted(21))
    engine.submit(one)
    engine.submit(other)
    caller.wait(2)
    rows = [*one.utterances, *other.utterances]
    assert [row.tokens for row in rows] == [[10, 11, 12, 13, 14], [20, 21, 22]]
    assert [len(row.log_probs) for row in rows] == [5, 3]
    assert sorted(family.drafts) == [[10, 11, 12, 99], [21]]
    assert sum(len(rows) for rows in family.steps) == 2 + 3
    found = counted(metrics)
    assert (found["asrloop_draft_tokens_total"], found["asrloop_draft_tokens_accepted_total"]) == (5, 3)


def test_a_row_that_is_decided_at_once_is_never_stepped(
    engine: Engine, family: CheckingFamily, metrics: EngineMetrics
) -> None:
    caller = Caller(engine)
    for _ in range(6):  # more than there are slots
        engine.submit(caller.request((10, 3), options=drafted(10, 11, 12)))
    replies = caller.wait(6)
    assert [tokens(reply) for reply in replies] == [[10, 11, 12]] * 6
    assert family.steps == []
    engine.close()
    found = counted(metrics)
    assert (found["asrloop_tokens_total"], found["asrloop_draft_tokens_accepted_total"]) == (18, 18)
    assert "asrloop_decode_seconds" in found


def test_endless_repetition_in_a_draft_is_cut_where_steps_would_be(engine: Engine) -> None:
    caller = Caller(engine)
    (request,) = caller.submit((10, 40), options=drafted(10, *[1000] * 30))
    caller.wait(1)
    assert tokens(request) == [10, 1000]
    assert not request.transcripts(CountingFamily())[0].complete


def test_what_is_given_stands_and_what_was_said_before_is_no_part_of_the_answer(
    engine: Engine, family: CheckingFamily
) -> None:
    caller = Caller(engine)
    request = Request(
        [np.full(10, 6, np.float32)], on_done=caller._done, options=drafted(7, 7, 500, 13, forced=3, before=2)
    )
    engine.submit(request)
    caller.wait(1)
    assert tokens(request) == [7, 7, 500, 13, 14, 15]
    (heard,) = request.transcripts(family)
    assert (heard.tokens, heard.text) == ([500, 13, 14, 15], "500 13 14 15")


@pytest.mark.parametrize(
    ("tensors", "draft"),
    [
        ({}, NO_DRAFT),
        ({"DRAFT": [5, 6]}, Draft([5, 6], 0, 0)),
        ({"DRAFT": [5, 6, 7], "FORCED": [2]}, Draft([5, 6, 7], 2, 0)),
        ({"PREFIX": [1, 2], "DRAFT": [5, 6], "FORCED": [1], "PREFIX_SAMPLES": [4]}, Draft([1, 2, 5, 6], 3, 2, 4)),
        ({"PREFIX": [1, 2]}, Draft([1, 2], 2, 2)),
        ({"DRAFT": [5, 6], "FORCED": [9]}, Draft([5, 6], 2, 0)),
    ],
)
def test_the_draft_of_a_request(tensors: dict[str, list[int]], draft: Draft) -> None:
    rows: list[Any] = [np.arange(10, dtype=np.float32)]
    sent = {name: np.array([values], np.int32) for name, values in tensors.items()}
    assert draft_of(sent, rows, CheckingFamily()) == draft
    assert rows[0].size == 10


def test_a_family_that_takes_no_drafts_does_not_hear_what_was_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckingFamily, "info", FamilyInfo(Lengths(10, 15), takes_drafts=False))
    rows: list[Any] = [np.arange(10, dtype=np.float32)]
    sent = {"PREFIX": np.array([[1]], np.int32), "PREFIX_SAMPLES": np.array([[4]], np.int32)}
    assert draft_of(sent, rows, CheckingFamily()) == NO_DRAFT
    assert rows[0].tolist() == [4, 5, 6, 7, 8, 9]
    sent |= {"SAMPLES": np.zeros((1, 16_000), np.float32), "PREFIX_SAMPLES": np.array([[4_000]], np.int32)}
    request = request_of(sent, {}, CheckingFamily(), AudioSettings(), on_done=lambda _: None)
    request.divide(15.0)
    (utterance,) = request.utterances
    assert (utterance.start, utterance.audio_seconds) == (0.25, 0.75), "its times count from the start of what was sent"


def test_a_draft_that_fails_fails_its_request_alone(engine: Engine) -> None:
    caller = Caller(engine)
    (poisoned,) = caller.submit((10, 3), options=drafted(-1))
    (healthy,) = caller.submit((20, 3))
    caller.wait(2)
    assert "admission failed: poisoned draft" in str(poisoned.error)
    assert tokens(healthy) == [20, 21, 22]


def test_a_draft_of_audio_that_is_cut_is_refused(family: CheckingFamily) -> None:
    cutting = Cutting(lambda: Cutter(None, 1, 2), whole_seconds=2.0)  # type: ignore[arg-type]  # nothing is cut
    engine = Engine(family, Scheduler(slots=4, inbox=8, queue_timeout=WAIT), cutting=cutting)
    try:
        with pytest.raises(
            InvalidOption, match=r"\[invalid_option\] PREFIX or DRAFT came with audio that is cut: .* 2 s"
        ):
            Caller(engine).submit((32_001, 1), options=drafted(1))
        Caller(engine).submit((32_000, 1), options=drafted(1))
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"DRAFT": [1000]}, "PREFIX or DRAFT has token 1000: ids are between 0 and 999"),
        ({"PREFIX": [-1]}, "PREFIX or DRAFT has token -1"),
        ({"DRAFT": [1], "FORCED": [-1]}, "FORCED is -1: send a number in 0.."),
        ({"FORCED": [-1]}, "FORCED is -1: send a number in 0.."),
        ({"PREFIX_SAMPLES": [-1]}, "PREFIX_SAMPLES is -1: send a number in 0..10"),
        ({"DRAFT": [1], "WAV": [1]}, "PREFIX and DRAFT came with WAV: send one row of 16 kHz SAMPLES"),
        ({"PREFIX": [1], "PREFIX_SAMPLES": [11]}, r"PREFIX_SAMPLES is 11: send a number in 0..10"),
        ({"PREFIX": [1] * 2001}, "PREFIX and DRAFT have 2001 tokens: send at most 2000 in all"),
    ],
)
def test_a_draft_that_makes_no_sense_is_refused(tensors: dict[str, list[int]], message: str) -> None:
    sent = {name: np.array([values], np.int32) for name, values in tensors.items()}
    with pytest.raises(InvalidOption, match=rf"\[invalid_option\] {message}"):
        draft_of(sent, [np.arange(10, dtype=np.float32)], CheckingFamily())


def test_a_row_whose_draft_is_right_does_not_wait_for_the_step_of_others(
    engine: Engine, family: CheckingFamily
) -> None:
    caller = Caller(engine)
    (other,) = caller.submit((20, 10**9), key="k" * 16)
    assert eventually(lambda: family.steps)
    step, admitted = family.step, threading.Event()
    admit = family.admit

    def late_step(slots: Sequence[int]) -> list[Emission]:
        if admitted.is_set():
            caller.wait(1)  # the step of the others lasts until the newcomer has its answer
        return step(slots)

    def note(slot: int, encoded: tuple[int, int], options: Options) -> Emission:
        emission = admit(slot, encoded, options)
        admitted.set()
        return emission

    family.step, family.admit = late_step, note  # type: ignore[method-assign]  # watched
    (quick,) = caller.submit((10, 3), options=drafted(10, 11, 12))
    caller.wait(1)
    assert tokens(quick) == [10, 11, 12]
    assert other not in caller.replies
    assert engine.cancel("k" * 16) == 1
