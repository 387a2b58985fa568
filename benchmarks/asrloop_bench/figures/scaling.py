"""A simulation: what a machine with more cores would answer, from times recorded on this one. Nothing here measures that."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.engine.utterance import Utterance

SLOTS = 16
CALLERS_PER_CORE = 8
SIMULATED_SECONDS = 3.0
WARM_UP_SECONDS = 1.0
CORES = (2, 4, 8, 16, 32, 64)


class Recorded(NamedTuple):
    """Times of one length of clip, in seconds of one core."""

    encode: float
    """Encoding, and listening for speech, on one thread."""
    steps: Mapping[int, float]
    """A step by its number of rows."""
    steps_taken: int
    """By an utterance."""
    python: float
    """What the engine's own Python takes a request: one at a time in a process."""
    outside: float
    """What Triton, gRPC and the callers take a request, on any core."""

    def step(self, rows: int) -> float:
        """A step of any number of rows."""
        return float(np.interp(rows, list(self.steps), list(self.steps.values())))


@dataclass(eq=False)
class _Task:
    left: float
    then: Callable[[], None]


@dataclass
class _Engine:
    """One engine: the project's scheduler, and what its threads are at."""

    scheduler: Scheduler
    done_steps: dict[Utterance, int] = field(default_factory=dict)
    waiting_for_python: list[Utterance] = field(default_factory=list)
    python_busy: bool = False
    stepping: bool = False


class Simulation:
    """Callers in closed loops before some engines on some cores; more tasks than cores share them equally."""

    def __init__(self, recorded: Recorded, cores: int, engines: int, encoders: int, callers: int) -> None:
        self.now = 0.0
        self._cores = cores
        self._recorded = recorded
        self._tasks: list[_Task] = []
        self._audio = np.zeros(0, np.float32)
        self._answers: list[float] = []
        served = [_Engine(Scheduler(SLOTS, callers, np.inf, encoders)) for _ in range(engines)]
        for number in range(callers):
            self._send(served[number % engines])

    def requests_per_second(self) -> float:
        """Answers within SIMULATED_SECONDS after the warm-up."""
        end = WARM_UP_SECONDS + SIMULATED_SECONDS
        while self.now < end:
            rate = min(1.0, self._cores / len(self._tasks))
            passed = min(task.left for task in self._tasks)
            self.now += passed / rate
            ended = []
            for task in self._tasks:
                task.left -= passed
                if task.left <= 1e-9:
                    ended.append(task)
            self._tasks = [task for task in self._tasks if task.left > 1e-9]
            for task in ended:
                task.then()
        return sum(WARM_UP_SECONDS <= at < end for at in self._answers) / SIMULATED_SECONDS

    def _start(self, seconds: float, then: Callable[[], None]) -> None:
        self._tasks.append(_Task(seconds, then))

    def _send(self, engine: _Engine) -> None:
        (utterance,) = Request([self._audio], on_done=lambda _: None).utterances
        self._start(self._recorded.outside, lambda: self._arrive(engine, utterance))

    def _arrive(self, engine: _Engine, utterance: Utterance) -> None:
        engine.waiting_for_python.append(utterance)
        self._work(engine)

    def _work(self, engine: _Engine) -> None:
        """Start whatever the engine's threads can start now."""
        recorded, scheduler = self._recorded, engine.scheduler
        if engine.waiting_for_python and not engine.python_busy:
            engine.python_busy = True
            arrived = engine.waiting_for_python.pop(0)
            self._start(recorded.python, lambda: self._submitted(engine, arrived))
        while (utterance := scheduler.next_to_encode()) is not None:
            self._start(recorded.encode, lambda one=utterance: self._encoded(engine, one))  # type: ignore[misc]
        if not engine.stepping:
            for utterance in scheduler.admit():
                engine.done_steps[utterance] = 0
            running = list(scheduler.running.values())
            if running:
                engine.stepping = True
                self._start(recorded.step(len(running)), lambda: self._stepped(engine, running))

    def _submitted(self, engine: _Engine, utterance: Utterance) -> None:
        engine.python_busy = False
        utterance.arrived_at = self.now
        engine.scheduler.submit(utterance)
        self._work(engine)

    def _encoded(self, engine: _Engine, utterance: Utterance) -> None:
        engine.scheduler.encode_done(utterance)
        self._work(engine)

    def _stepped(self, engine: _Engine, running: Sequence[Utterance]) -> None:
        engine.stepping = False
        for utterance in running:
            engine.done_steps[utterance] += 1
            if engine.done_steps[utterance] == self._recorded.steps_taken:
                del engine.done_steps[utterance]
                engine.scheduler.finish(utterance)
                self._answers.append(self.now)
                self._send(engine)
        self._work(engine)


def table(recorded: Mapping[float, Recorded], cores: Sequence[int] = CORES) -> str:
    """How many times the first row's requests per second, by cores, in Markdown, for each length of clip in seconds."""
    heads = ("one engine, at most 4 encoders", "one engine, an encoder a core", "an engine for every 4 cores")
    lines = [
        "| cores | " + " | ".join(f"{seconds:g} s: {head}" for seconds in recorded for head in heads) + " |",
        "| ---: |" + " ---: |" * (len(heads) * len(recorded)),
    ]
    first: list[float] = []
    for count in cores:
        ways = ((1, min(4, count)), (1, count), (max(1, count // 4), min(4, count)))
        found = [
            Simulation(one, count, engines, encoders, CALLERS_PER_CORE * count).requests_per_second()
            for one in recorded.values()
            for engines, encoders in ways
        ]
        first = first or found
        entries = (f"{now / before:.1f}x" for now, before in zip(found, first, strict=True))
        lines.append(f"| {count} | " + " | ".join(entries) + " |")
    return "\n".join(lines)
