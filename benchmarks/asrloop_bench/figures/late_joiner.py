"""The time that a request waits for its first step when it arrives while others decode."""

import time
from typing import Any
from unittest import mock

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.engine.family import Family
from asrloop.engine.request import Answered
from asrloop.engine.utterance import Finished
from asrloop_bench import in_process
from asrloop_bench.method import spread


def steps_waited(family: Family[Any], settings: Settings, long: Samples, short: Samples) -> float:
    """Return the steps from the end of the late one's encode to the end of its first step.

    ``short`` arrives when all slots but one decode ``long``; both are f32 [N], 16 kHz, of different lengths.
    """
    encode, encoded = family.encode, in_process.encode(family, long)

    def encode_short(samples: Samples, *arguments: Any, **named: Any) -> Any:
        return encoded if samples.size == long.size else encode(samples, *arguments, **named)

    steps = _StepTimes()
    with (
        mock.patch.object(family, "encode", encode_short),  # many of ``long`` can start to decode at once
        in_process.engine(family, settings, observer=steps) as engine,
    ):
        others = in_process.Asked(engine, [long] * (settings.engine.slots - 1))
        while any(one.first_step_at is None and not one.is_finished for one in others.request.utterances):
            time.sleep(0.0005)
        late = in_process.Asked(engine, [short]).answer()
        others.answer()
    (row,) = late.utterances
    if row.first_step_at is None or row.encoded_at is None:
        raise ValueError(f"the late request did not decode: {late.error}")
    return (row.first_step_at - row.encoded_at) / spread.median(steps.around(row.first_step_at))


class _StepTimes:
    """An observer that keeps when steps ended, on the engine's clock, and how long they took."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, float]] = []

    def stepped(self, rows: int, seconds: float) -> None:
        self._steps.append((time.monotonic(), seconds))

    def finished(self, utterance: Finished) -> None:
        pass

    def answered(self, recording: Answered) -> None:
        pass

    def around(self, moment: float, count: int = 10) -> list[float]:
        """Return the durations of the ``count`` steps nearest to ``moment``, in seconds."""
        return [seconds for _, seconds in sorted(self._steps, key=lambda step: abs(step[0] - moment))[:count]]
