"""The time that a request waits for its first step when it arrives while others decode."""

import time
from typing import Any
from unittest import mock

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.engine.family import Family
from asrloop_bench import in_process
from asrloop_bench.method import spread

NEAREST = 10
"""Steps around the first one, whose median is a step's duration."""


def steps_waited(family: Family[Any], settings: Settings, long: Samples, short: Samples) -> float:
    """Return the steps from the end of the late one's encode to the end of its first step.

    ``short`` arrives when all slots but one decode ``long``; both are f32 [N], 16 kHz, of different lengths.
    """
    encode, encoded = family.encode, in_process.encode(family, long)
    observer = mock.Mock()
    steps: list[tuple[float, float]] = []  # end on the engine's clock, and duration
    observer.stepped = lambda _, seconds: steps.append((time.monotonic(), seconds))

    def encode_short(samples: Samples, *arguments: Any, **named: Any) -> Any:
        return encoded if samples.size == long.size else encode(samples, *arguments, **named)

    with (
        mock.patch.object(family, "encode", encode_short),  # many of ``long`` can start to decode at once
        in_process.engine(family, settings, observer=observer) as engine,
    ):
        others = in_process.Asked(engine, [long] * (settings.engine.slots - 1))
        while any(one.first_step_at is None and not one.is_finished for one in others.request.utterances):
            time.sleep(0.0005)
        late = in_process.Asked(engine, [short]).answer()
        others.answer()
    (row,) = late.utterances
    if row.first_step_at is None or row.encoded_at is None:
        raise ValueError(f"the late request did not decode: {late.error}")
    first = row.first_step_at
    around = sorted(steps, key=lambda step: abs(step[0] - first))[:NEAREST]
    return (first - row.encoded_at) / spread.median([seconds for _, seconds in around])
