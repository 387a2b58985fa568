"""Every rung of the ladder serves the same speech, in each of its layouts, and a run that is cut short keeps what it has."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from asrloop_bench.ladder import arms, rungs, tables
from asrloop_bench.ladder.rungs import RUNGS
from asrloop_bench.load.generators import Request, Turn
from asrloop_bench.method.clips import Clip, Reference
from numpy.typing import NDArray

from asrloop import config
from tests.conftest import words

HEARD = "ever tried ever failed"


@pytest.mark.slow
def test_all_rungs_transcribe_in_every_layout(beckett: NDArray[np.float32]) -> None:
    clip = Clip("start", beckett[:48_000])
    cells: arms.Cells = {}
    loads: list[dict[str, float]] = []
    with arms.opened(config.load(), list(RUNGS), [clip], 2) as opened:
        assert {name: list(found) for name, found in opened.items()} == {
            **{name: [rungs.TOGETHER, rungs.APART] for name in RUNGS},
            "continuous": [rungs.OWN],
        }
        heard = {
            (name, layout, words(text))
            for name, found in opened.items()
            for layout, ask in found.items()
            for text in ask(2, ["start"], 0.0).texts["start"]
        }
        assert heard == {(name, layout, HEARD) for name, found in opened.items() for layout in found}
        arms.measure(opened, [clip], [1], 2, time.monotonic() + 60, lambda name: None, cells, loads)
    saved = json.loads(json.dumps(cells))
    assert list(saved) == ["3 s, 1 caller"]
    assert list(saved["3 s, 1 caller"]["arms"]) == list(RUNGS)
    assert [len(arm["rounds"]) for arm in saved["3 s, 1 caller"]["arms"].values()] == [2] * len(RUNGS)
    assert len(loads) == 2
    for table in tables.for_terminal(saved):
        assert table.row_count == len(RUNGS)


def slow_and_fast(asked: list[tuple[str, int]]) -> arms.Arms:
    """Two arms that answer in no time; one has two rungs."""

    def ask(name: str, alone: float, many: float) -> arms.Ask:
        def turn(count: int, order: object, seconds: float) -> Turn:
            asked.append((name, count))
            took = alone if count == 1 else many
            return Turn(count, 0.0, [Request(one, "a", 0.0, took) for one in range(count)], {"a": {"Hi."}})

        return turn

    return {
        "channel_per_call": {"together": ask("together", 1.0, 1.0), "apart": ask("apart", 0.5, 2.0)},
        "continuous": {rungs.OWN: ask("own", 0.1, 0.1)},
    }


def test_each_arm_is_measured_in_its_fastest_layout_with_so_many_callers() -> None:
    asked: list[tuple[str, int]] = []
    clip = Clip("a", np.zeros(16_000, np.float32))
    opened, cells = slow_and_fast(asked), arms.Cells()
    arms.measure(opened, [clip], [1, 4], 1, time.monotonic() + 60, lambda name: None, cells, [])
    chosen = {name: cell["arms"]["channel_per_call"]["layout"] for name, cell in cells.items()}
    assert chosen == {"1 s, 1 caller": "together", "1 s, 4 callers": "apart"}
    assert {("together", 1), ("apart", 4)} <= set(asked)
    assert not {("together", 4), ("apart", 1)} & set(asked)


def test_an_interrupted_run_keeps_what_it_has_and_no_round_starts_after_the_time_is_over() -> None:
    clip = Clip("a", np.zeros(16_000, np.float32))
    opened = slow_and_fast([])
    cells = arms.Cells()

    def progress(told: str) -> None:
        if told.startswith("round 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        arms.measure(opened, [clip], [1], 5, time.monotonic() + 60, progress, cells, [])
    assert [len(arm["rounds"]) for arm in cells["1 s, 1 caller"]["arms"].values()] == [1, 1]
    arms.measure(opened, [clip], [1], 5, time.monotonic() - 1, progress, cells, [])
    assert [len(arm["rounds"]) for arm in cells["1 s, 1 caller"]["arms"].values()] == [1, 1]


def test_a_layout_apart_has_an_instance_a_core_and_one_thread_each(tmp_path: Path) -> None:
    folder = rungs.repository(rungs.APART, tmp_path / "models")
    configs = {path.parent.name: path.read_text(encoding="utf-8") for path in folder.glob("*/config.pbtxt")}
    threaded = {name for name, text in configs.items() if "intra_op_thread_count" in text}
    assert threaded == {"vendor_encoder", "vendor_decoder", "vendor_loop", "clean_loop"}
    for name, text in configs.items():
        assert ("instance_group" in text) == (f"count: {rungs.cores()} }}" in text), name
        assert ("intra_op_thread_count" in text) == ('"intra_op_thread_count" value { string_value: "1" }' in text), (
            name
        )


def test_word_errors_are_those_of_each_arm() -> None:
    def ask(wrong: str) -> arms.Ask:
        def turn(count: int, order: object, seconds: float) -> Turn:
            assert isinstance(order, list)
            assert (count, seconds) == (len(order), 0.0), "each caller sends one"
            said = {name: {"one two wrong four" if name == wrong else "One, two, three, four."} for name in order}
            return Turn(count, 0.0, [], said)

        return turn

    speech = {str(number): Reference(Path("unused"), "one two three four") for number in range(20)}
    made: arms.Arms = {
        "continuous": {rungs.OWN: ask("none")},
        "faster_whisper": {rungs.APART: ask("17"), rungs.TOGETHER: ask("17")},
    }
    found = arms.word_errors_of(made, speech)
    assert {name: one.rate for name, one in found.items()} == {"continuous": 0.0, "faster_whisper": 1 / 80}
