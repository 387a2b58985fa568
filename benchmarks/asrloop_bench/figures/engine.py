"""The engine's figures beside their aims: in this process, and behind Triton. Arms are interleaved."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from asrloop_client import AsrClient, PoolConfig

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop_bench import in_process
from asrloop_bench.figures import aims, late_joiner
from asrloop_bench.figures.aims import Row, compared, faster
from asrloop_bench.figures.figure import Run, speech
from asrloop_bench.method import memory, results, spread
from asrloop_bench.method.interleave import Measured, callers, timed
from asrloop_bench.method.target import Target
from asrloop_bench.vendor import files
from asrloop_bench.vendor.loop import open_loop

SLOTS = 16
STEPS = 8


def engine(
    run: Run,
    quick: Annotated[
        bool, typer.Option(help="Shorter comparisons and 200 requests for the memory: about two minutes.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write. Default: results/<time>-engine/engine.json.")
    ] = None,
) -> str:
    """Measure the engine's figures beside their aims."""
    baselines = files.prepare()
    figures = EngineFigures(run.settings, speech(1.0, 3.0, 10.0), 5.0 if quick else 25.0)
    run.step("in this process")
    rows = [*figures.decoder_step(), *figures.whole_clip(), figures.late_joiner()]
    run.step("behind tritonserver")
    with run.server(baselines) as server:
        rows += [*figures.server_hop(server), *figures.many_callers(server)]
    run.step("memory of a fresh server")
    with run.server() as server:
        rows.append(figures.memory(server, 200 if quick else 2000))
    path = output or results.folder("engine") / "engine.json"
    results.save(path, {"about": {**run.about, "quick": quick}, "figures": [row._asdict() for row in rows]})
    return aims.table(rows)


class EngineFigures:
    """Measures on clips f32 [N], 16 kHz, by their seconds; ``seconds`` is the time for each comparison."""

    def __init__(self, settings: Settings, clips: Mapping[float, Samples], seconds: float) -> None:
        self._settings = settings
        self._clips = clips
        self._seconds = seconds

    def decoder_step(self) -> list[Row]:
        """Compare a step at 1 and at 16 rows with the vendor graph's step at 1 row; 10 s of audio, 1 thread."""
        samples = self._clips[10.0]
        family = in_process.open_family(self._settings, slots=SLOTS, threads=1)
        vendor = open_loop(files.VENDOR_LOOP, 1)
        encoded, hidden = in_process.encode(family, samples), vendor.encode(samples)

        def ours(rows: int) -> Measured:
            for slot in range(rows):
                in_process.admit(family, slot, encoded)
            family.step(range(rows))
            return timed(lambda: family.step(range(rows)), STEPS)()

        def theirs() -> Measured:
            step = vendor.start(samples, hidden)
            step()  # computes the cross K/V
            return timed(step, STEPS)()

        found = compared({"vendor": theirs, "one": lambda: ours(1), "sixteen": lambda: ours(SLOTS)}, self._seconds)
        found["sixteen"].rounds = [seconds / SLOTS for seconds in found["sixteen"].rounds]
        many = "decoder step, 16 rows, time per row, against 1 row of the vendor graph"
        return [
            faster("decoder step, 1 row, against the vendor graph", 2.2, found["vendor"], found["one"]),
            faster(many, 8.0, found["vendor"], found["sixteen"]),
        ]

    def whole_clip(self) -> list[Row]:
        """Compare audio to tokens in one process with the vendor's graphs with plain runs, 1 thread."""
        family = in_process.open_family(self._settings, slots=1, threads=1)
        vendor = open_loop(files.VENDOR_LOOP, 1)
        rows = []
        for seconds, aim in ((1.0, 1.7), (10.0, 1.6)):
            samples = self._clips[seconds]
            arms = {
                "vendor": timed(lambda clip=samples: vendor.tokens(clip)),  # type: ignore[misc]
                "ours": timed(lambda clip=samples: in_process.decode(family, clip)),  # type: ignore[misc]
            }
            found = compared(arms, self._seconds)
            what = f"whole clip in one process, {seconds:g} s, 1 thread"
            rows.append(faster(what, aim, found["vendor"], found["ours"]))
        return rows

    def late_joiner(self) -> Row:
        """Steps from its own encode to the first step of a 3 s clip that arrives while 15 of 10 s decode."""
        family = in_process.open_family(self._settings)
        waits: list[float] = []
        until = time.monotonic() + self._seconds
        while len(waits) < 3 or time.monotonic() < until:
            waits.append(late_joiner.steps_waited(family, self._settings, self._clips[10.0], self._clips[3.0]))
        typical = spread.median(waits)
        what = "first step of a request that arrives while 15 others decode, after its own encode"
        detail = f"worst of {len(waits)}: {max(waits):.2f} steps"
        return Row(what, "<= 2 steps", f"{typical:.2f} steps", typical <= 2.0, detail)

    def server_hop(self, server: Target) -> list[Row]:
        """Subtract the time of the same clip in this process, with as many threads, from a request through asr_ensemble."""
        family = in_process.open_family(self._settings, slots=1)
        rows = []
        with AsrClient(server.grpc, pool=PoolConfig(min_channels=1)) as client:
            for seconds, most_share in ((1.0, None), (10.0, 0.05)):
                samples = self._clips[seconds]
                arms = {
                    "in process": timed(lambda clip=samples: in_process.decode(family, clip)),  # type: ignore[misc]
                    "request": timed(lambda clip=samples: client.transcribe(clip)),  # type: ignore[misc]
                }
                found = compared(arms, self._seconds)
                inside, through = found["in process"].rounds, found["request"].rounds
                cost = spread.median([a - b for a, b in zip(through, inside, strict=True)])
                share = cost / spread.median(inside)
                what = f"request minus the clip in-process, {seconds:g} s, 1 caller"
                aim = "<= 3 ms" if most_share is None else f"<= 3 ms and <= {100 * most_share:g} %"
                reached = cost <= 0.003 and (most_share is None or share <= most_share)
                times = f"{1000 * spread.median(inside):.1f} -> {1000 * spread.median(through):.1f} ms"
                detail = f"{times}, {aims.rounds(found['request'])}"
                rows.append(Row(what, aim, f"{1000 * cost:.1f} ms, {share:.1%}", reached, detail))
        return rows

    def many_callers(self, server: Target) -> list[Row]:
        """Compare continuous batching with one slot and vendor graphs, 16 callers with 3 s clips. The server has both."""
        pool = PoolConfig(min_channels=SLOTS)
        with (
            AsrClient(server.grpc, pool=pool) as new,
            AsrClient(server.grpc, model="ladder_in_process", pool=pool) as old,
        ):
            found = compared({"vendor": self._asked_by_many(old), "ours": self._asked_by_many(new)}, self._seconds)
        latencies = found["ours"].latencies
        tail = spread.percentile(latencies, 99) / spread.median(latencies)
        what = "16 callers, 3 s clips, throughput against one slot and vendor graphs"
        return [
            faster(what, 2.0, found["vendor"], found["ours"]),
            Row("the same, p99 / p50", "<= 2.5", f"{tail:.2f}", tail <= 2.5, f"{len(latencies)} requests"),
        ]

    def _asked_by_many(self, client: AsrClient) -> Callable[[], Measured]:
        def ask() -> str:
            return client.transcribe(self._clips[3.0]).text

        return lambda: callers([ask] * SLOTS, each=2)

    def memory(self, server: Target, requests: int) -> Row:
        """Compare memory of decoder_loop's process, all slots used, before and after ``requests`` requests of 1 and 3 s."""
        short = [self._clips[1.0], self._clips[3.0]]
        with AsrClient(server.grpc) as client:
            list(client.transcribe_many([self._clips[10.0]] * 2 * SLOTS, concurrency=SLOTS))
            before = memory.of_decoder(server).resident
            list(client.transcribe_many((short[index % 2] for index in range(requests)), concurrency=SLOTS))
            after = memory.of_decoder(server).resident
        what = f"memory of the decoder_loop process, {SLOTS} slots, over {requests} requests"
        reached = after <= 600 and after - before < 0.05 * before
        detail = "resident; before: after 32 clips of 10 s"
        return Row(what, "<= 600 MB, flat", f"{after:.0f} MB, {after - before:+.0f}", reached, detail)
