"""Arms are measured in turns, and errors of callers come out."""

import threading

import pytest
from asrloop_bench.method.interleave import Measured, callers, interleave, timed


def test_every_arm_runs_once_a_round_and_the_first_place_rotates() -> None:
    order: list[str] = []

    def arm(name: str) -> Measured:
        order.append(name)
        return Measured([1.0], [1.0], {name})

    found = interleave({name: lambda name=name: arm(name) for name in "abc"}, least_rounds=3, most_rounds=3, seconds=0)  # type: ignore[misc]
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(one.rounds) for name, one in found.items()} == {"a": 3, "b": 3, "c": 3}
    assert found["b"].texts == {"b"}


def test_the_time_limit_ends_the_rounds_but_not_before_the_least() -> None:
    found = interleave({"a": lambda: Measured([1.0])}, least_rounds=2, most_rounds=1000, seconds=0)
    assert len(found["a"].rounds) == 2


def test_callers_ask_at_the_same_time_and_one_after_another_each() -> None:
    everybody = threading.Barrier(8)

    def request() -> str:
        everybody.wait(timeout=30)  # passes only when all eight are asking
        return "text"

    found = callers([request] * 8, each=2)
    assert len(found.latencies) == 16
    assert found.texts == {"text"}


def test_an_error_of_a_caller_is_raised() -> None:
    def request() -> str:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        callers([request, request])


def test_a_timed_call_is_made_as_often_as_asked_and_counted_once() -> None:
    made: list[int] = []
    measured = timed(lambda: made.append(1), repeat=3)()
    assert len(made) == 3
    assert len(measured.rounds) == 1
