"""Callers in a closed loop on an engine of this process, whose graphs sleep."""

import queue
import threading
import time
from typing import NamedTuple

import numpy as np

from asrloop.engine.engine import Engine
from asrloop.engine.outputs import OUTPUTS
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop_bench.batches.sleeping import SleepingFamily, Times
from asrloop_bench.in_process import LIMIT_SECONDS
from asrloop_bench.method import spread

CORES = 4
"""Of each batch: one steps, the others encode."""

CALLERS = 32
"""For each batch: eight for each of its cores, as many as fill all slots and wait."""

SLOTS = 16


OUTPUT_NAMES = frozenset(output.name for output in OUTPUTS)
"""As asr_ensemble asks for."""


class Load(NamedTuple):
    """Result of a load; latencies in seconds."""

    requests_a_second: float
    latencies: list[float]
    loop_seconds: float = 0.0
    """Processor time that the process of the decode loop took for each request."""

    @property
    def tail(self) -> float:
        """p99 by p50."""
        return spread.percentile(self.latencies, 99) / spread.percentile(self.latencies, 50)


def on_engine(times: Times, batches: int, seconds: float, warm_up: float = 1.0) -> Load:
    """Let CALLERS for each batch ask an engine with so many, one request after another each, for ``seconds``.

    As in Triton, one thread takes all requests in and another answers them.
    """
    callers = CALLERS * batches
    scheduler = Scheduler(SLOTS, callers, LIMIT_SECONDS, encoders=(CORES - 1) * batches, batches=batches)
    engine = Engine(SleepingFamily(times), scheduler)
    asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
    answered: list[tuple[float, float]] = []
    samples = np.zeros(1600, np.float32)
    closing = threading.Event()

    def done(request: Request) -> None:
        request.result(engine.family)
        answered.append((request.arrived_at, time.monotonic()))
        asked.put(not closing.is_set())

    def take_in() -> None:
        while asked.get():
            engine.submit(Request([samples.copy()], on_done=done, outputs=OUTPUT_NAMES))

    for _ in range(callers):
        asked.put(True)
    thread = threading.Thread(target=take_in, name="callers")
    thread.start()
    time.sleep(warm_up)
    began = time.monotonic()
    time.sleep(seconds)
    ended = time.monotonic()
    closing.set()
    thread.join()
    engine.close()
    latencies = [at - arrived for arrived, at in answered if began <= at < ended]
    return Load(len(latencies) / (ended - began), latencies)
