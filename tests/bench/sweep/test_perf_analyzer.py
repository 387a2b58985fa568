"""The real perf_analyzer takes our input over every transport, and its validation sees a text that differs."""

from pathlib import Path

import numpy as np
import pytest
from asrloop_bench.method.clips import Clip
from asrloop_bench.method.target import Target
from asrloop_bench.sweep import perf_analyzer
from asrloop_bench.sweep.perf_analyzer import PerfAnalyzer, TextDiffers, load_arguments, write_input
from asrloop_bench.sweep.points import Point
from asrloop_bench.sweep.run import Row, Sweep, metrics_between, parse_metrics
from numpy.typing import NDArray

from asrloop import paths
from asrloop.tritonserver.process import TritonServer


@pytest.fixture(scope="module")
def analyzer() -> PerfAnalyzer:
    return perf_analyzer.fetched(paths.cache())


@pytest.fixture(scope="module")
def clips(beckett: NDArray[np.float32]) -> list[Clip]:
    return [Clip("a", beckett[:16_000]), Clip("b", beckett[:48_000])]


@pytest.fixture(scope="module")
def target(server: TritonServer) -> Target:
    return Target(server.http_endpoint, server.grpc_endpoint, server.metrics_url, "test")


@pytest.mark.slow
def test_points_over_every_transport(analyzer: PerfAnalyzer, target: Target, clips: list[Clip]) -> None:
    sweep = Sweep(analyzer, target, {"short": clips}, point_seconds=0.1)
    sweep.prepare(lambda name: None)
    points = [
        Point("short", "grpc", callers=2),
        Point("short", "grpc", rate_share=0.5),
        Point("short", "http", callers=1),
        Point("short", "shm", callers=1),
    ]
    rows: list[Row] = []
    notes: list[str] = []
    known: list[int] = []
    sweep.measure(points, float("inf"), lambda name: known.append(len(rows)), rows, notes)
    assert known == [0, 1, 2, 3], "each row is there before the next point, so that an interrupted run has it"
    assert notes == []
    assert [row["text"] for row in rows] == ["equal", "equal", "not compared", "not compared"]
    for row in rows:
        assert row["p99_ms"] >= row["p50_ms"] > 0
        assert row["throughput"] > 0
        assert row["requests_ok"] >= row["requests"]
        assert row["mean_rows_per_step"] >= 1


def test_a_text_that_differs_is_seen(analyzer: PerfAnalyzer, target: Target, clips: list[Clip], tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    write_input(path, clips, {"a": "planted", "b": "planted"})
    arguments = load_arguments(
        endpoint=target.grpc, protocol="grpc", input_data=path, requests=4, concurrency=1, rate=None
    )
    with pytest.raises(TextDiffers):
        analyzer.run(arguments, timeout=60)


def test_a_point_that_differs_is_measured_and_marked(analyzer: PerfAnalyzer, target: Target, clips: list[Clip]) -> None:
    sweep = Sweep(analyzer, target, {"short": clips}, point_seconds=0.1)
    sweep.prepare(lambda name: None)
    sweep.texts["a"] = "planted"
    rows: list[Row] = []
    sweep.measure([Point("short", "grpc", callers=1)], float("inf"), lambda name: None, rows, [])
    assert [row["text"] for row in rows] == ["differs"]


def test_no_point_starts_after_the_time_is_over(analyzer: PerfAnalyzer, target: Target, clips: list[Clip]) -> None:
    sweep = Sweep(analyzer, target, {"short": clips}, point_seconds=0.1)
    rows: list[Row] = []
    notes: list[str] = []
    sweep.measure([Point("short", "grpc", callers=1)] * 3, 0.0, lambda name: None, rows, notes)
    assert rows == []
    assert notes == ["3 points left out: the time of the run was over"]


def test_the_metrics_between_two_moments() -> None:
    before = parse_metrics("asrloop_steps_total 5\nasrloop_rows_per_step_sum 5\nasrloop_rows_per_step_count 5\n")
    after = parse_metrics(
        "# HELP asrloop_steps_total Steps\nasrloop_steps_total 9\nasrloop_rows_per_step_sum 17\n"
        'asrloop_rows_per_step_count 9\nasrloop_requests_total{outcome="ok"} 3\nnv_other 1\n'
    )
    assert metrics_between(before, after) == {"mean_rows_per_step": 3.0, "steps": 4.0, "requests_ok": 3.0}
