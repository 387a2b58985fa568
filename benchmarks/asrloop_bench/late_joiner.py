"""How long a request waits for its first step when it arrives while others decode."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from asrloop.config import Settings
from asrloop.engine import Engine
from asrloop.family import Family
from asrloop.scheduler import Scheduler
from asrloop.utterance import Utterance
from asrloop_bench import spread
from asrloop_bench.figures import SLOTS, Samples


def steps_waited(family: Family[Any], settings: Settings, long: Samples, short: Samples) -> float:
    """Steps between the end of the late one's encode and the end of its first step."""
    steps = _StepTimes()
    engine = Engine(
        _EncodedBefore(family, long),
        Scheduler(SLOTS, settings.engine.inbox, settings.engine.queue_timeout_seconds),
        steps,
    )
    ended = threading.Semaphore(0)
    late = Utterance(short, on_done=lambda _: ended.release())
    others = [Utterance(long, on_done=lambda _: ended.release()) for _ in range(SLOTS - 1)]
    try:
        engine.submit(*others)
        while any(one.first_step_at is None and not one.is_finished for one in others):
            time.sleep(0.0005)
        engine.submit(late)
        for _ in range(SLOTS):
            ended.acquire(timeout=60)
    finally:
        engine.close()
    if late.first_step_at is None or late.encoded_at is None:
        raise ValueError(f"the late request did not decode: {late.error}")
    return (late.first_step_at - late.encoded_at) / spread.median(steps.around(late.first_step_at))


class _EncodedBefore:
    """A family that has encoded one recording already, so that many of it can start to decode at once."""

    def __init__(self, family: Family[Any], samples: Samples) -> None:
        self.vocabulary_size = family.vocabulary_size
        self.admit, self.step, self.text, self.piece = family.admit, family.step, family.text, family.piece
        self._family = family
        self._samples = samples
        self._encoded = family.encode(samples)

    def encode(self, samples: Samples) -> Any:
        return self._encoded if samples is self._samples else self._family.encode(samples)


class _StepTimes:
    """An observer that keeps when steps ended and how long they took."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, float]] = []

    def stepped(self, rows: int, seconds: float) -> None:
        self._steps.append((time.monotonic(), seconds))

    def finished(self, utterance: Utterance) -> None:
        """Of no interest here."""

    def around(self, moment: float, count: int = 10) -> Sequence[float]:
        """Durations of the ``count`` steps nearest to ``moment``."""
        return [seconds for _, seconds in sorted(self._steps, key=lambda step: abs(step[0] - moment))[:count]]
