"""Records what a clip costs the real model with one thread: what a family that sleeps then sleeps for."""

import time
from collections.abc import Callable

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.speech.detector import open_detector
from asrloop.speech.gate import speech_gate
from asrloop_bench import in_process
from asrloop_bench.batches.sleeping import ROWS, Times
from asrloop_bench.checkout import PREPARED
from asrloop_bench.method import spread

REPEATS = 15


def recorded(samples: Samples, settings: Settings) -> Times:
    """Return the medians for ``samples`` f32 [N], 16 kHz."""
    family = in_process.open_family(settings, slots=max(ROWS), threads=1)
    has_speech = speech_gate(open_detector(PREPARED), settings)
    encoded = in_process.encode(family, samples)
    tokens = len(in_process.decode(family, samples).tokens)

    def encode() -> None:
        in_process.encode(family, samples)
        if has_speech is not None:
            has_speech(samples)

    def steps(rows: int) -> list[float]:
        for slot in range(rows):
            in_process.admit(family, slot, encoded)
        found = [_seconds(lambda: family.step(range(rows))) for _ in range(tokens)]
        for slot in range(rows):
            family.finish(slot, ())
        return found

    return Times(
        encode=spread.median([_seconds(encode) for _ in range(REPEATS)]),
        steps=[spread.median([one for _ in range(3) for one in steps(rows)]) for rows in ROWS],
        tokens=tokens,
    )


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
