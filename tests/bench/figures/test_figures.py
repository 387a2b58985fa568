"""The figures can be measured: on the engine and on a real server."""

from pathlib import Path

import numpy as np
import pytest
from asrloop_bench import in_process
from asrloop_bench.checkout import IDLE_MODELS
from asrloop_bench.figures import ways
from asrloop_bench.figures.engine import steps_waited
from asrloop_bench.method import machine_load, target
from numpy.typing import NDArray

from asrloop import config
from asrloop.tritonserver.process import TritonServer
from asrloop.tritonserver.processes import model_processes
from tests.conftest import BECKETT, words


def test_a_late_joiner_waits_for_at_least_a_part_of_a_step(
    model_repository: Path, beckett: NDArray[np.float32]
) -> None:
    settings = config.load()
    family = in_process.open_family(settings, directory=model_repository / "decoder_loop" / "1")
    assert words(family.text(in_process.decode(family, beckett).tokens)) == BECKETT
    assert steps_waited(family, settings, beckett[:64_000], beckett[:16_000]) > 0


def test_the_memory_of_a_models_process_is_read(server: TritonServer) -> None:
    assert machine_load.of_process(model_processes(server.pid)["decoder_loop"]).resident > 50


@pytest.mark.slow
def test_the_clients_ways_to_connect_make_a_table(beckett: NDArray[np.float32]) -> None:
    with target.started(config.load(), more_repositories=[IDLE_MODELS]) as server:
        table = ways.pool_table(server.grpc, {1.0: beckett[:16_000]}, seconds=0, counts=[1, 2])
    head, _, *rows, _, pool = table.splitlines()
    assert head == "| server, clip, callers | the pool | one shared channel | a channel per call |"
    assert [row.split(" | ")[0] for row in rows] == [
        f"| {server}, 1 s, {callers}" for server in ("no work", "transcribes") for callers in ("1 caller", "2 callers")
    ]
    assert all(row.count(" ms") == 3 and row.count(", times ") == 2 for row in rows)
    assert pool.startswith("Acquiring a channel of the pool and releasing it: ")
