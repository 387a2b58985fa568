"""Every rung of the ladder serves the same speech on one real server, and the peers' code fits the project's."""

import json
from pathlib import Path

import numpy as np
import pytest
from asrloop_bench import gate, ladder_plan, ladder_run, server_figures, vendor_files
from asrloop_bench.clips import Clip
from asrloop_bench.ladder import RUNGS
from asrloop_bench.vendor_loop import sessions
from numpy.typing import NDArray

from asrloop import config
from asrloop.triton_server import TritonServer

ROOT = Path(__file__).resolve().parents[2]
WORDS = "ever tried ever failed"


def words(texts: list[str]) -> str:
    (text,) = texts
    return "".join(letter for letter in text.lower() if letter.isalpha() or letter == " ")


def test_all_rungs_transcribe_on_one_server(beckett: NDArray[np.float32]) -> None:
    clip = Clip("start", beckett[:48_000])
    cells, notes = ladder_plan.run(ROOT, config.load(), list(RUNGS), [clip], [1, 2], 0.2, lambda *told: None)
    assert notes == []
    assert list(cells) == ["3 s, 1 caller", "3 s, 2 callers"]
    for cell in cells.values():
        assert {name: words(arm["texts"]) for name, arm in cell["arms"].items()} == dict.fromkeys(RUNGS, WORDS)
        assert all(min(arm["rounds"]) > 0 for arm in cell["arms"].values())
    saved = json.loads(json.dumps({"cells": cells}))
    assert len(list(ladder_run.tables(saved["cells"], ladder_run.numbered_rungs()))) == 2
    if len(cells["3 s, 1 caller"]["arms"]["clean"]["rounds"]) >= gate.LEAST_ROUNDS:
        assert not any(finding.fails for finding in gate.compare(saved, saved, 0.1))


def test_no_cell_starts_after_the_time_is_over(beckett: NDArray[np.float32]) -> None:
    clip = Clip("start", beckett[:16_000])
    cells, notes = ladder_plan.run(ROOT, config.load(), ["continuous"], [clip], [1], 0.0, lambda *told: None)
    assert cells == {}
    assert notes == ["1 s, 1 caller: left out, the time of the run was over"]


def test_the_vendors_loop_hears_beckett(beckett: NDArray[np.float32]) -> None:
    models = vendor_files.prepare(ROOT / ".cache")
    encoder, decoder = (vendor_files.graph(name, models) for name in vendor_files.SOURCES)
    assert len(sessions(encoder, decoder, threads=1).tokens(beckett)) > 10


def test_the_stub_of_a_model_is_found(server: TritonServer) -> None:
    process = server_figures.stub_of(server.pid, "decoder_loop")
    assert server_figures.resident_megabytes(process) > 50
    with pytest.raises(ValueError, match="no Python stub of nonsense"):
        server_figures.stub_of(server.pid, "nonsense")
