"""Every rung of the ladder serves the same speech on one real server."""

import json

import numpy as np
import pytest
from asrloop_bench.ladder import cells as ladder_cells
from asrloop_bench.ladder import plan, tables
from asrloop_bench.ladder.rungs import RUNGS
from asrloop_bench.method.clips import Clip
from numpy.typing import NDArray

from asrloop import config
from tests.conftest import words

LEAST_ROUNDS = ladder_cells.LEAST_ROUNDS
HEARD = "ever tried ever failed"


def test_all_rungs_transcribe_on_one_server(beckett: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_cells, "MOST_ROUNDS", LEAST_ROUNDS)
    clip = Clip("start", beckett[:48_000])
    cells: plan.Cells = {}
    notes = plan.run(config.load(), list(RUNGS), [clip], [1, 2], 10.0, lambda *told: None, cells)
    assert notes == []
    assert list(cells) == ["3 s, 1 caller", "3 s, 2 callers"]
    for cell in cells.values():
        assert list(cell["arms"]) == list(RUNGS)
        assert {words(text) for arm in cell["arms"].values() for text in arm["texts"]} == {HEARD}
        assert [len(arm["rounds"]) for arm in cell["arms"].values()] == [LEAST_ROUNDS] * len(RUNGS)
        assert all(min(arm["rounds"]) > 0 for arm in cell["arms"].values())
    saved = json.loads(json.dumps({"cells": cells}))
    for table in tables.for_terminal(saved["cells"]):
        assert table.row_count == len(RUNGS)
        assert table.caption == f"{LEAST_ROUNDS} rounds"


def test_no_cell_starts_after_the_time_is_over(beckett: NDArray[np.float32]) -> None:
    clip = Clip("start", beckett[:16_000])
    cells: plan.Cells = {}
    notes = plan.run(config.load(), ["continuous"], [clip], [1], 0.0, lambda *told: None, cells)
    assert cells == {}
    assert notes == ["1 s, 1 caller: left out, the time of the run was over"]
