"""What is given to AIPerf and read from its report; the program itself runs in tests/gateway/foreign."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile
from asrloop_bench.figures import aiperf
from asrloop_bench.method.clips import Clip


def test_clips_are_listed_as_files_of_their_length(tmp_path: Path) -> None:
    listed = aiperf.written([Clip("a", np.zeros(48_000, np.float32))] * 2, tmp_path / "clips")
    files = [json.loads(line)["audio"] for line in listed.read_text().splitlines()]
    assert [soundfile.info(file).duration for file in files] == [3.0, 3.0]
    assert len(set(files)) == 2


def test_a_report_becomes_a_row() -> None:
    report = {
        "request_throughput": {"avg": 9.76},
        "request_latency": {"p50": 91.4, "p90": 99.6, "p99": 102.0},
        "request_count": {"avg": 62.0},
    }
    assert aiperf.cells(report, 3.0) == ["9.8", "29", "91", "100", "102", "62", "0"]
    assert aiperf.cells({**report, "error_request_count": {"avg": 2.0}}, 3.0)[-1] == "2"
