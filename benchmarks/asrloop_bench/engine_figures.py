"""The engine's figures in one process: decoder step, whole clip, a late joiner. Arms are interleaved, one round after another."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from asrloop import families
from asrloop.config import Settings
from asrloop.family import Family
from asrloop_bench import late_joiner, spread, vendor_files
from asrloop_bench.figures import SLOTS, Figure, Samples, compared, decode, faster, timed
from asrloop_bench.interleave import Measured
from asrloop_bench.vendor_loop import VendorLoop, sessions

STEPS = 8


class EngineFigures:
    """Measures the figures; ``seconds`` is the time for each comparison."""

    def __init__(self, root: Path, settings: Settings, clips: Mapping[float, Samples], seconds: float) -> None:
        self._root = root
        self._settings = settings
        self._clips = clips
        self._seconds = seconds
        self._vendor_graphs = [
            vendor_files.graph(name, vendor_files.prepare(root / ".cache")) for name in vendor_files.SOURCES
        ]

    def decoder_step(self) -> list[Figure]:
        """A step at 1 and at 16 rows against the vendor graph's step at 1 row, 10 s of audio, 1 thread."""
        samples = self._clips[10.0]
        family, vendor = self._family(SLOTS, 1), self._vendor(1)
        encoded, hidden = family.encode(samples), vendor.encode(samples)

        def ours(rows: int) -> Measured:
            for slot in range(rows):
                family.admit(slot, encoded)
            return _steps(lambda: family.step(range(rows)), rows)

        arms = {
            "vendor": lambda: _steps(vendor.start(samples, hidden), 1),
            "one": lambda: ours(1),
            "sixteen": lambda: ours(SLOTS),
        }
        found = compared(arms, self._seconds)
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
        family, vendor = self._family(1, 1), self._vendor(1)
        figures = []
        for seconds, aim in ((1.0, 1.7), (10.0, 1.6)):
            samples = self._clips[seconds]
            arms = {"vendor": timed(vendor.tokens, samples), "ours": timed(lambda one: decode(family, one), samples)}
            found = compared(arms, self._seconds)
            figures.append(
                faster(f"whole clip in one process, {seconds:g} s, 1 thread", aim, found["vendor"], found["ours"])
            )
        return figures

    def late_joiner(self) -> list[Figure]:
        """From the end of its own encode to the first step of a 3 s clip that arrives while 15 of 10 s decode, in steps."""
        family = families.open_family(self._root / "model_repository", self._settings)
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

    def _with(self, slots: int, threads: int) -> Settings:
        engine = self._settings.engine
        threads_of = {
            "encoder_threads": threads or engine.encoder_threads,
            "decoder_threads": threads or engine.decoder_threads,
        }
        return self._settings.model_copy(update={"engine": engine.model_copy(update={"slots": slots, **threads_of})})

    def _family(self, slots: int, threads: int) -> Family[Any]:
        return families.open_family(self._root / "model_repository", self._with(slots, threads))

    def _vendor(self, threads: int) -> VendorLoop:
        encoder, decoder = self._vendor_graphs
        return sessions(encoder, decoder, threads)


def _steps(step: Callable[[], object], rows: int) -> Measured:
    step()  # the vendor's first step computes the cross K/V
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    each = (time.perf_counter() - started) / STEPS / rows
    return Measured([each], [each])
