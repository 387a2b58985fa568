"""Real tritonservers whose recognizers sleep, and callers of them."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
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
from asrloop_bench.load.generators import Generators, Turn
from asrloop_bench.method import machine_load, target

PROCESSES = 4
"""Of callers."""

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
            "ASRLOOP_AUDIO__SPEECH_THRESHOLD": 0,
        }
        numbers = {name: str(value) for name, value in environment.items()}
        with target.started(settings, more_repositories=[repository], environment=numbers) as server:
            yield server


def on_servers(running: Sequence[target.Target], batches: int, seconds: float, command: Sequence[str]) -> Load:
    """Let CALLERS for each batch, in four processes of ``command``, ask the recognizers that sleep, one request after another.

    The servers share callers, processes and ``batches`` equally.
    """
    callers = CALLERS * batches // len(running)
    with ExitStack() as stack, ThreadPoolExecutor(len(running)) as threads:
        generators = [stack.enter_context(Generators(command, PROCESSES // len(running))) for _ in running]

        def turns(seconds: float) -> list[Turn]:
            ways = [("triton", server.grpc, INFO.family) for server in running]
            return list(threads.map(lambda one, way: one.turn(way, callers, ["clip"], seconds), generators, ways))

        turns(1.0)
        loops = [model_processes(server.pid or 0)[recognizer(INFO.family).loop] for server in running]
        before = sum(machine_load.stat(loop)[1] for loop in loops)
        found = turns(seconds)
        after = sum(machine_load.stat(loop)[1] for loop in loops)
    return Load(
        sum(1 / turn.seconds_per_request() for turn in found),
        [latency for turn in found for latency in turn.latencies],
        (after - before) / sum(len(turn.requests) for turn in found),
    )


def clip() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return audio that is short to send: what is decoded of it does not depend on it."""
    return np.random.default_rng(0).uniform(-0.1, 0.1, 1600).astype(np.float32)
