"""What the engine does with drafts: each row's reaches the family, and what that decides at once counts as if it was stepped."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from asrloop.engine.engine import Engine
from asrloop.engine.family import Emission
from asrloop.engine.inputs import Hint, hint_of
from asrloop.engine.metrics import EngineMetrics
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from tests.engine.test_engine import WAIT, Caller, CountingFamily, counted, tokens


class CheckingFamily(CountingFamily):
    """Decides as many tokens of a draft as it likes itself; above 1000 it likes only 1000, over and over.

    A draft that begins with -1 makes admit raise.
    """

    def admit(self, slot: int, encoded: tuple[int, int], draft: Sequence[int] = (), given: int = 0) -> Emission:
        super().admit(slot, encoded, draft)
        if list(draft[:1]) == [-1]:
            raise ValueError("poisoned draft")
        length, count = encoded
        right = given
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
    request = caller.request((10, 5), (20, 3), drafts=[[10, 11, 12, 99], [21]])
    engine.submit(request)
    caller.wait(1)
    assert [row.tokens for row in request.utterances] == [[10, 11, 12, 13, 14], [20, 21, 22]]
    assert [len(row.log_probs) for row in request.utterances] == [5, 3]
    assert sorted(family.drafts) == [[10, 11, 12, 99], [21]]
    assert sum(len(rows) for rows in family.steps) == 2 + 3
    found = counted(metrics)
    assert (found["asrloop_draft_tokens_total"], found["asrloop_draft_tokens_accepted_total"]) == (5, 3)


def test_a_row_that_is_decided_at_once_is_never_stepped(
    engine: Engine, family: CheckingFamily, metrics: EngineMetrics
) -> None:
    caller = Caller(engine)
    for _ in range(6):  # more than there are slots
        engine.submit(caller.request((10, 3), drafts=[[10, 11, 12]]))
    replies = caller.wait(6)
    assert [tokens(reply) for reply in replies] == [[10, 11, 12]] * 6
    assert family.steps == []
    engine.close()
    found = counted(metrics)
    assert (found["asrloop_tokens_total"], found["asrloop_draft_tokens_accepted_total"]) == (18, 18)
    assert "asrloop_decode_seconds" in found


def test_endless_repetition_in_a_draft_is_cut_where_steps_would_be(engine: Engine) -> None:
    caller = Caller(engine)
    (request,) = caller.submit((10, 40), drafts=[[10, *[1000] * 30]])
    caller.wait(1)
    assert tokens(request) == [10, 1000]
    assert not request.transcripts(CountingFamily())[0].complete


def test_what_is_given_stands_and_what_was_said_before_is_no_part_of_the_answer(
    engine: Engine, family: CheckingFamily
) -> None:
    caller = Caller(engine)
    request = Request(
        [np.full(10, 6, np.float32)], on_done=caller._done, drafts=[[7, 7, 500, 13]], given=3, said_before=2
    )
    engine.submit(request)
    caller.wait(1)
    assert tokens(request) == [7, 7, 500, 13, 14, 15]
    (heard,) = request.transcripts(family)
    assert (heard.tokens, heard.text) == ([500, 13, 14, 15], "500 13 14 15")


@pytest.mark.parametrize(
    ("tensors", "hint"),
    [
        ({}, Hint()),
        ({"DRAFT": [5, 6]}, Hint([5, 6], 0, 0)),
        ({"DRAFT": [5, 6, 7], "FORCED": [2]}, Hint([5, 6, 7], 2, 0)),
        ({"PREFIX": [1, 2], "DRAFT": [5, 6], "FORCED": [1], "PREFIX_SAMPLES": [4]}, Hint([1, 2, 5, 6], 3, 2)),
        ({"PREFIX": [1, 2]}, Hint([1, 2], 2, 2)),
        ({"DRAFT": [5, 6], "FORCED": [9]}, Hint([5, 6], 2, 0)),
    ],
)
def test_hints_of_a_request(tensors: dict[str, list[int]], hint: Hint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckingFamily, "piece", lambda _, token: f" {token}")
    rows: list[Any] = [np.arange(10, dtype=np.float32)]
    sent = {name: np.array([values], np.int32) for name, values in tensors.items()}
    assert hint_of(sent, rows, CheckingFamily()) == hint
    assert rows[0].size == 10


def test_a_family_that_takes_no_drafts_does_not_hear_what_was_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckingFamily, "takes_drafts", False)
    rows: list[Any] = [np.arange(10, dtype=np.float32)]
    sent = {"PREFIX": np.array([[1]], np.int32), "PREFIX_SAMPLES": np.array([[4]], np.int32)}
    assert hint_of(sent, rows, CheckingFamily()) == Hint()
    assert rows[0].tolist() == [4, 5, 6, 7, 8, 9]


def test_a_draft_that_fails_fails_its_request_alone(engine: Engine) -> None:
    caller = Caller(engine)
    (poisoned,) = caller.submit((10, 3), drafts=[[-1]])
    (healthy,) = caller.submit((20, 3))
    caller.wait(2)
    assert "admission failed: poisoned draft" in str(poisoned.error)
    assert tokens(healthy) == [20, 21, 22]


def test_drafts_come_one_a_row() -> None:
    with pytest.raises(ValueError, match="zip"):
        Request([np.ones(3, np.float32)] * 2, on_done=lambda request: None, drafts=[[1]])
