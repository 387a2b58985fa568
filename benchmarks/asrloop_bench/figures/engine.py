"""The engine's figures in one process: decoder step, whole clip, a late joiner. Arms are interleaved, one round after another."""

import time
from collections.abc import Mapping
from typing import Any

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.engine.family import Family
from asrloop.families.registry import open_family
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures import late_joiner
from asrloop_bench.figures.figure import SLOTS, Figure, compared, faster, tokens_alone
from asrloop_bench.method import spread
from asrloop_bench.method.interleave import Measured, timed
from asrloop_bench.vendor import files
from asrloop_bench.vendor.loop import open_loop

STEPS = 8


class EngineFigures:
    """Measures the figures on clips f32 [N], 16 kHz, by their seconds; ``seconds`` is the time for each comparison."""

    def __init__(self, settings: Settings, clips: Mapping[float, Samples], seconds: float) -> None:
        files.prepare()
        self._settings = settings
        self._clips = clips
        self._seconds = seconds

    def decoder_step(self) -> list[Figure]:
        """A step at 1 and at 16 rows against the vendor graph's step at 1 row, 10 s of audio, 1 thread."""
        samples = self._clips[10.0]
        family, vendor = self._family(SLOTS), open_loop(files.VENDOR_LOOP, 1)
        encoded, hidden = family.encode(samples), vendor.encode(samples)

        def ours(rows: int) -> Measured:
            for slot in range(rows):
                family.admit(slot, encoded)
            family.step(range(rows))
            return timed(lambda: family.step(range(rows)), STEPS)()

        def theirs() -> Measured:
            step = vendor.start(samples, hidden)
            step()  # computes the cross K/V
            return timed(step, STEPS)()

        arms = {
            "vendor": theirs,
            "one": lambda: ours(1),
            "sixteen": lambda: ours(SLOTS),
        }
        found = compared(arms, self._seconds)
        found["sixteen"].rounds = [seconds / SLOTS for seconds in found["sixteen"].rounds]
        return [
            faster("decoder step, 1 row, against the vendor graph", 2.2, found["vendor"], found["one"]),
            faster(
                "decoder step, 16 rows, time per row, against 1 row of the vendor graph",
                8.0,
                found["vendor"],
                found["sixteen"],
            ),
        ]

    def whole_clip(self) -> list[Figure]:
        """Audio to tokens in one process against the vendor's graphs with plain runs, 1 thread."""
        family, vendor = self._family(1), open_loop(files.VENDOR_LOOP, 1)
        figures = []
        for seconds, aim in ((1.0, 1.7), (10.0, 1.6)):
            samples = self._clips[seconds]
            arms = {
                "vendor": timed(lambda clip=samples: vendor.tokens(clip)),  # type: ignore[misc]
                "ours": timed(lambda clip=samples: tokens_alone(family, clip)),  # type: ignore[misc]
            }
            found = compared(arms, self._seconds)
            figures.append(
                faster(f"whole clip in one process, {seconds:g} s, 1 thread", aim, found["vendor"], found["ours"])
            )
        return figures

    def late_joiner(self) -> list[Figure]:
        """From the end of its own encode to the first step of a 3 s clip that arrives while 15 of 10 s decode, in steps."""
        family = open_family(PREPARED, self._settings)
        waits: list[float] = []
        until = time.monotonic() + self._seconds
        while len(waits) < 3 or time.monotonic() < until:
            waits.append(late_joiner.steps_waited(family, self._settings, self._clips[10.0], self._clips[3.0]))
        typical = spread.median(waits)
        return [
            Figure(
                "first step of a request that arrives while 15 others decode, after its own encode",
                "<= 2 steps", f"{typical:.2f} steps", typical <= 2.0, f"worst of {len(waits)}: {max(waits):.2f} steps",
            )
        ]  # fmt: skip

    def _family(self, slots: int) -> Family[Any]:
        """The project's model on one thread."""
        one_thread = {"slots": slots, "encoder_threads": 1, "decoder_threads": 1}
        engine = self._settings.engine.model_copy(update=one_thread)
        return open_family(PREPARED, self._settings.model_copy(update={"engine": engine}))
