"""A real tritonserver whose recognizer sleeps, and callers of it."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from asrloop.config import Settings
from asrloop.recognizer import recognizer
from asrloop.tritonserver import beside
from asrloop.tritonserver.processes import model_processes
from asrloop.wheels import DETECTOR
from asrloop_bench.batches.load import CALLERS, CORES, SLOTS, Load
from asrloop_bench.batches.sleeping import INFO, Times, write
from asrloop_bench.checkout import PREPARED
from asrloop_bench.load.generators import Generators
from asrloop_bench.method import machine_load, target

KNOWN = """

from asrloop.families.registry import FAMILIES
from asrloop_bench.batches.sleeping import ENTRY

FAMILIES[ENTRY.name] = ENTRY
"""
"""Behind the loop's own model.py: the registry finds only families of the package."""


@contextmanager
def started(times: Times, batches: int, settings: Settings) -> Iterator[target.Target]:
    """Start the project's server with a recognizer that sleeps beside the default."""
    with tempfile.TemporaryDirectory() as scratch:
        repository = Path(scratch)
        loop = beside.provide(repository, INFO.family)
        shutil.rmtree(repository / recognizer(INFO.family).file)
        shutil.copyfile(PREPARED / DETECTOR, loop / DETECTOR)
        write(times, loop)
        with (loop / "model.py").open("a", encoding="utf-8") as code:
            code.write(KNOWN)
        environment = {
            "ASRLOOP_ENGINE__BATCHES": batches,
            "ASRLOOP_ENGINE__SLOTS": SLOTS,
            "ASRLOOP_ENGINE__ENCODERS": (CORES - 1) * batches,
            "ASRLOOP_ENGINE__INBOX": max(64, CALLERS * batches),
            "ASRLOOP_AUDIO__SPEECH_THRESHOLD": 0,
        }
        numbers = {name: str(value) for name, value in environment.items()}
        with target.started(settings, more_repositories=[repository], environment=numbers) as server:
            yield server


def on_server(server: target.Target, batches: int, seconds: float, command: Sequence[str]) -> Load:
    """Let CALLERS for each batch, in four processes of ``command``, ask the recognizer that sleeps, one request after another."""
    with Generators(command, 4) as generators:
        way = ("triton", server.grpc, INFO.family)
        generators.turn(way, CALLERS * batches, ["clip"], 1.0)
        loop = model_processes(server.pid or 0)[recognizer(INFO.family).loop]
        _, before = machine_load.stat(loop)
        turn = generators.turn(way, CALLERS * batches, ["clip"], seconds)
        _, after = machine_load.stat(loop)
    return Load(1 / turn.seconds_per_request(), turn.latencies, (after - before) / len(turn.requests))


def clip() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return audio that is short to send: what is decoded of it does not depend on it."""
    return np.random.default_rng(0).uniform(-0.1, 0.1, 1600).astype(np.float32)
