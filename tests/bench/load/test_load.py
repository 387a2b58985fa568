"""Turns of real callers on a real server, and the arithmetic of what they gave."""

import sys
from pathlib import Path

import numpy as np
import pytest
from asrloop_bench.load import callers
from asrloop_bench.load.generators import Generators, LoadError, Request, Turn, write_clips
from asrloop_bench.method.clips import Clip
from numpy.typing import NDArray

from asrloop.tritonserver.process import TritonServer
from tests.conftest import words


@pytest.mark.parametrize("way", ["triton", "client"])
def test_callers_are_spread_over_processes_and_hear_speech(
    way: str, server: TritonServer, beckett: NDArray[np.float32], tmp_path: Path
) -> None:
    path = write_clips(tmp_path / "clips.npz", [Clip("a", beckett[:48_000])])
    command = [sys.executable, callers.__file__, str(path)]
    with Generators(command, count=2) as generators:
        turn = generators.turn((way, server.grpc_endpoint), 3, ["a"], 0.3)
    assert {one.caller for one in turn.requests} == {0, 1, 2}
    assert {words(text) for text in turn.texts["a"]} == {"ever tried ever failed"}


def test_a_request_that_fails_ends_the_run(server: TritonServer, tmp_path: Path) -> None:
    path = write_clips(tmp_path / "clips.npz", [Clip("nan", np.full(16_000, np.nan, np.float32))])
    command = [sys.executable, callers.__file__, str(path)]
    with Generators(command) as generators, pytest.raises(LoadError, match="invalid_audio"):
        generators.turn(("triton", server.grpc_endpoint), 1, ["nan"], 0.1)


def test_answers_in_bunches_do_not_make_the_rate_jump() -> None:
    requests = [Request(caller, "a", 0.8 * k, 0.8 * (k + 1)) for caller in range(16) for k in range(5)]
    for until in (2.0, 2.3, 3.9):
        assert Turn(16, until, requests, {}).seconds_per_request() == pytest.approx(0.8 / 16)


def test_only_requests_among_all_callers_count_as_latencies() -> None:
    requests = [
        Request(0, "a", 0.0, 0.1),
        Request(1, "a", 0.0, 1.0),
        Request(0, "a", 0.1, 0.2),
        Request(0, "a", 1.0, 1.5),
    ]
    assert Turn(2, 1.5, requests, {}).latencies == [0.5]


def test_requests_longer_than_the_turn_are_counted_over_the_time_they_took() -> None:
    one_after_another = [Request(caller, "a", 0.0, float(caller + 1)) for caller in range(16)]
    assert Turn(16, 2.0, one_after_another, {}).seconds_per_request() == 1.0
