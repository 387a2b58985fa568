"""The family that sleeps goes through the real engine and the real server, and its loads make the page's tables."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from asrloop_bench.batches import recording, server
from asrloop_bench.batches.load import Load, on_engine
from asrloop_bench.batches.sleeping import ROWS, SleepingFamily, Times
from asrloop_bench.figures import batches
from asrloop_bench.load import callers
from asrloop_bench.load.generators import write_clips
from asrloop_bench.method.clips import Clip
from numpy.typing import NDArray

from asrloop import config
from asrloop.engine.family import Emission

TIMES = Times(encode=0.004, steps=[0.001, 0.001, 0.002, 0.003, 0.004], tokens=3)


def test_steps_between_the_recorded_ones_are_interpolated() -> None:
    assert TIMES.step(16) == 0.004
    assert TIMES.step(6) == pytest.approx(0.0025)


@pytest.mark.parametrize("batches", [1, 2])
def test_batches_step_at_the_same_time(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SleepingFamily.step
    stepping: list[SleepingFamily] = []
    most = 0

    def step(self: SleepingFamily, slots: Sequence[int]) -> list[Emission]:
        nonlocal most
        stepping.append(self)
        most = max(most, len(stepping))
        emissions = plain(self, slots)
        stepping.remove(self)
        return emissions

    monkeypatch.setattr(SleepingFamily, "step", step)
    slow = Times(encode=0.01, steps=[0.01] * len(ROWS), tokens=3)
    on_engine(slow, batches, seconds=1.0, warm_up=0.2)
    assert most == batches


def test_the_tables_say_what_is_reached() -> None:
    loads = {
        (way, count): [Load(100.0 * gain, [0.1] * 98 + [0.15, 0.3])]
        for way in batches.WAYS
        for count, gain in zip(batches.BATCHES, (1, 2, 4, 6, 7), strict=True)
    }
    assert "| 4 | 16 | 400 (4.0x), 1.5 | 400 (4.0x), 1.5 | 400 (4.0x), 1.5 |" in batches.table({"1 s": loads})
    found = {(one.what, one.reached) for one in batches.rows({"1 s": loads})}
    assert ("1 s through the engine, 4 batches against 1", True) in found
    assert ("1 s through the tritonserver, 8 batches against 1", False) in found
    assert "4.0 ms to encode and to listen" in batches.words("1 s", TIMES, loads)


@pytest.mark.slow
def test_a_server_whose_recognizer_sleeps_answers(beckett: NDArray, tmp_path: Path) -> None:
    settings = config.load()
    times = recording.recorded(beckett[:16_000], settings)
    assert times.tokens > 0
    assert 0 < times.steps[0] < times.steps[-1]
    file = write_clips(tmp_path / "clips.npz", [Clip("clip", server.clip())])
    with server.started(TIMES, 1, settings) as one, server.started(TIMES, 1, settings) as other:
        load = server.on_servers([one, other], 2, 0.5, [sys.executable, callers.__file__, str(file)])
    assert load.requests_a_second > 0
    assert load.loop_seconds > 0
