"""How long a request waits for its first step when it arrives while others decode."""

import threading
import time
from typing import Any

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.engine.engine import Engine
from asrloop.engine.family import Family
from asrloop.engine.recording import Answered
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.engine.utterance import Finished
from asrloop_bench.figures.figure import SLOTS
from asrloop_bench.method import spread

LIMIT_SECONDS = 60.0


def steps_waited(family: Family[Any], settings: Settings, long: Samples, short: Samples) -> float:
    """From the end of the late one's encode to the end of its first step, in steps.

    ``short`` arrives when 15 of ``long`` are all decoding; both are f32 [N], 16 kHz, of different lengths.
    """
    steps = _StepTimes()
    scheduler = Scheduler(SLOTS, settings.engine.inbox, settings.engine.queue_timeout_seconds)
    engine = Engine(_EncodedBefore(family, long), scheduler, steps)
    ended = threading.Semaphore(0)
    others = Request([long] * (SLOTS - 1), on_done=lambda _: ended.release())
    late = Request([short], on_done=lambda _: ended.release())
    try:
        engine.submit(others)
        while any(one.first_step_at is None and not one.is_finished for one in others.utterances):
            time.sleep(0.0005)
        engine.submit(late)
        if not all(ended.acquire(timeout=LIMIT_SECONDS) for _ in (others, late)):
            raise TimeoutError(f"not decoded after {LIMIT_SECONDS:g} s")
    finally:
        engine.close()
    (row,) = late.utterances
    if row.first_step_at is None or row.encoded_at is None:
        raise ValueError(f"the late request did not decode: {late.error}")
    return (row.first_step_at - row.encoded_at) / spread.median(steps.around(row.first_step_at))


class _EncodedBefore:
    """A family that has encoded one recording already, so that many of it can start to decode at once."""

    def __init__(self, family: Family[Any], samples: Samples) -> None:
        self.vocabulary_size, self.takes_drafts = family.vocabulary_size, family.takes_drafts
        self.admit, self.step = family.admit, family.step
        self.text, self.piece, self.confidence = family.text, family.piece, family.confidence
        self._family = family
        self._size = samples.size
        self._encoded = family.encode(samples)

    def encode(self, samples: Samples, *, alone: bool = False) -> Any:
        return self._encoded if samples.size == self._size else self._family.encode(samples, alone=alone)


class _StepTimes:
    """An observer that keeps when steps ended, on the engine's clock, and how long they took."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, float]] = []

    def stepped(self, rows: int, seconds: float) -> None:
        self._steps.append((time.monotonic(), seconds))

    def finished(self, utterance: Finished) -> None:
        """Of no interest here."""

    def answered(self, recording: Answered) -> None:
        """Nor is this."""

    def around(self, moment: float, count: int = 10) -> list[float]:
        """Durations of the ``count`` steps nearest to ``moment``, in seconds."""
        return [seconds for _, seconds in sorted(self._steps, key=lambda step: abs(step[0] - moment))[:count]]
