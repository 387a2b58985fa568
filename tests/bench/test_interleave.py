"""Arms are measured in turns, and errors of callers come out."""

import time

import pytest
from asrloop_bench.interleave import Measured, callers, interleave


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


def test_callers_ask_at_the_same_time() -> None:
    def request() -> str:
        time.sleep(0.05)
        return "text"

    found = callers([request] * 8, each=2)
    assert len(found.latencies) == 16
    assert found.rounds[0] < sum(found.latencies) / 16
    assert found.texts == {"text"}


def test_an_error_of_a_caller_is_raised() -> None:
    def request() -> str:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        callers([request, request])
