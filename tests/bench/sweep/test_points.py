"""How many requests a point gets: enough for its time, and never fewer than perf_analyzer accepts."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from asrloop_bench.method.clips import Clip
from asrloop_bench.method.target import Target
from asrloop_bench.sweep import run
from asrloop_bench.sweep.perf_analyzer import PerfAnalyzerError
from asrloop_bench.sweep.points import Point, request_count
from asrloop_bench.sweep.run import Row, Sweep


class Refusing:
    """Refuses what perf_analyzer refuses: fewer requests than arrive in a second."""

    def __init__(self, throughput: float) -> None:
        self.throughput = throughput

    def run(self, arguments: Sequence[str], timeout: float) -> dict[str, float]:
        given = dict(itertools.pairwise(arguments))
        if int(given["--request-count"]) < int(float(given.get("--request-rate-range", "0"))):
            raise PerfAnalyzerError("code 99: request-count can not be less than request-rate")
        latencies = {f"{name} latency": 1000.0 for name in ("Avg", "p50", "p90", "p95", "p99")}
        return {"Inferences/Second": self.throughput, **latencies}


@pytest.mark.parametrize("throughput", [2.0, 9.5, 60.0, 5000.0])
@pytest.mark.parametrize("point_seconds", [0.1, 3.0])
def test_poisson_points_are_measured_on_slow_and_fast_machines(
    throughput: float, point_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "settled_metrics", lambda url: {})
    analyzer: Any = Refusing(throughput)
    clips = [Clip("a", np.zeros(160, np.float32))]
    sweep = Sweep(
        analyzer, Target("", "", "", "test"), {"1 s": clips}, point_seconds, {"a": ""}, {"1 s": 1 / throughput}
    )
    rows: list[Row] = []
    notes: list[str] = []
    points = [Point("1 s", "grpc", callers=4), Point("1 s", "grpc", rate_share=0.9)]
    sweep.measure(points, float("inf"), lambda name: None, rows, notes)
    assert notes == []
    assert [row["rate"] for row in rows] == [None, 0.9 * throughput]


def test_every_clip_once_every_caller_twice_and_a_second_of_arrivals() -> None:
    assert request_count(5.0, 8.0, 4, 4) == 40
    assert request_count(0.1, 8.0, 16, 4) == 32
    assert request_count(0.1, 8.0, 1, 50) == 50
    assert request_count(1000.0, 8.0, 1, 4) == 3000
    assert request_count(20.3, 0.1, 1, 4, rate=20.3) == 21
    assert request_count(4000.0, 8.0, 1, 4, rate=4000.0) == 4000
