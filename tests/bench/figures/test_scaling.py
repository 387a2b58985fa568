"""The simulation obeys the arithmetic that any real machine obeys, and its recording measures real things."""

import pytest
from asrloop_bench.checkout import IDLE_MODELS
from asrloop_bench.figures import layers, recording, scaling
from asrloop_bench.figures.scaling import Recorded, Simulation
from asrloop_bench.method import clips, target

from asrloop import config

TIMES = Recorded(encode=0.004, steps={1: 0.001, 16: 0.004}, steps_taken=5, python=0.0005, outside=0.001)


def reached(recorded: Recorded, cores: int, engines: int, encoders: int, callers: int) -> float:
    return Simulation(recorded, cores, engines, encoders, callers).requests_per_second()


def test_one_caller_waits_for_the_sum_of_all_parts() -> None:
    alone = TIMES.outside + TIMES.python + TIMES.encode + TIMES.steps_taken * TIMES.step(1)
    assert reached(TIMES, 1, 1, 1, 1) == pytest.approx(1 / alone, rel=0.02)
    assert reached(TIMES, 64, 8, 4, 1) == pytest.approx(1 / alone, rel=0.02)


def test_no_machine_does_more_work_than_its_cores_can() -> None:
    least = TIMES.outside + TIMES.python + TIMES.encode + TIMES.steps_taken * TIMES.step(16) / 16
    for cores, engines in ((1, 1), (2, 1), (8, 2)):
        assert reached(TIMES, cores, engines, 4, 16 * cores) <= cores / least * 1.01


def test_one_engine_is_limited_by_what_it_does_one_at_a_time_and_a_second_is_not() -> None:
    python_bound = TIMES._replace(python=0.004)
    one, two = (reached(python_bound, 64, engines, 4, 64) for engines in (1, 2))
    assert one == pytest.approx(1 / 0.004, rel=0.02)
    assert two == pytest.approx(2 / 0.004, rel=0.02)


def test_the_table_has_a_row_for_each_number_of_cores() -> None:
    head, _, *rows = scaling.table({1.0: TIMES}, cores=(2, 4)).splitlines()
    assert head.count("|") == 5
    assert [row.split(" | ")[0] for row in rows] == ["| 2", "| 4"]
    assert rows[0].count("1.0x") == 3
    assert 1.5 < float(rows[1].split(" | ")[3].rstrip("x |")) < 2.3


@pytest.mark.slow
def test_layers_and_times_are_taken_from_the_real_server() -> None:
    settings = config.load()
    clip = clips.cut(clips.speech_files(), 1.0, 1)[0].samples
    with target.started(settings, more_repositories=[IDLE_MODELS]) as server:
        found = layers.measured(clip, server.grpc, settings, 0.0)
        recorded, answered = recording.record({1.0: clip}, server.grpc, settings)
    assert set(found) == set(layers.LAYERS)
    assert min(found["encoder"] + found["nothing"]) > 0
    assert layers.markdown(found).count("\n| ") == len(layers.LAYERS) + 2
    one = recorded[1.0]
    assert one.steps_taken > 1
    assert one.step(16) > one.step(1) > 0
    assert min(one.encode, one.python, one.outside, answered[1.0]) > 0
