"""The engine's figures beside their aims: in this process, and behind Triton. Arms are interleaved."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, NamedTuple
from unittest import mock

import typer
from asrloop_client import AsrClient, PoolConfig

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.engine.family import Family
from asrloop_bench import in_process
from asrloop_bench import vendor as vendors
from asrloop_bench.figures import aims
from asrloop_bench.figures.aims import Row, compared, faster
from asrloop_bench.figures.figure import Run, speech
from asrloop_bench.method import machine_load, spread
from asrloop_bench.method.interleave import Measured, callers, timed
from asrloop_bench.method.target import Target
from asrloop_bench.vendor import open_loop

SLOTS = 16
STEPS = 8


def engine(
    run: Run,
    quick: Annotated[
        bool, typer.Option(help="Shorter comparisons and 200 requests for the memory: about two minutes.")
    ] = False,
) -> str:
    """Measure the engine's figures beside their aims."""
    baselines = vendors.prepare()
    figures = EngineFigures(run.settings, speech(1.0, 3.0, 10.0), 5.0 if quick else 25.0)
    run.step("in this process")
    rows = [*figures.decoder_step(), *figures.whole_clip(), figures.late_joiner()]
    run.step("behind tritonserver")
    with run.server(baselines) as server:
        rows += [*figures.server_hop(server), *figures.many_callers(server)]
    run.step("memory of a fresh server")
    with run.server() as server:
        rows.append(figures.memory(server, 200 if quick else 2000))
    return aims.table(rows)


class EngineFigures(NamedTuple):
    """Measures on clips f32 [N], 16 kHz, by their seconds; ``seconds`` is the time for each comparison."""

    settings: Settings
    clips: Mapping[float, Samples]
    seconds: float

    def decoder_step(self) -> list[Row]:
        """Compare a step at 1 and at 16 rows with the vendor graph's step at 1 row; 10 s of audio, 1 thread."""
        samples = self.clips[10.0]
        family = in_process.open_family(self.settings, slots=SLOTS, threads=1)
        vendor = open_loop(vendors.VENDOR_LOOP, 1)
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

        found = compared({"vendor": theirs, "one": lambda: ours(1), "sixteen": lambda: ours(SLOTS)}, self.seconds)
        found["sixteen"].rounds = [seconds / SLOTS for seconds in found["sixteen"].rounds]
        many = "decoder step, 16 rows, time per row, against 1 row of the vendor graph"
        return [
            faster("decoder step, 1 row, against the vendor graph", 2.2, found["vendor"], found["one"]),
            faster(many, 8.0, found["vendor"], found["sixteen"]),
        ]

    def whole_clip(self) -> list[Row]:
        """Compare audio to tokens in one process with the vendor's graphs with plain runs, 1 thread."""
        family = in_process.open_family(self.settings, slots=1, threads=1)
        vendor = open_loop(vendors.VENDOR_LOOP, 1)
        rows = []
        for seconds, aim in ((1.0, 1.7), (10.0, 1.6)):
            ours = timed(partial(in_process.decode, family, self.clips[seconds]))
            found = compared({"vendor": timed(partial(vendor.tokens, self.clips[seconds])), "ours": ours}, self.seconds)
            what = f"whole clip in one process, {seconds:g} s, 1 thread"
            rows.append(faster(what, aim, found["vendor"], found["ours"]))
        return rows

    def late_joiner(self) -> Row:
        """Steps from its own encode to the first step of a 3 s clip that arrives while 15 of 10 s decode."""
        family = in_process.open_family(self.settings)
        waits: list[float] = []
        until = time.monotonic() + self.seconds
        while len(waits) < 3 or time.monotonic() < until:
            waits.append(steps_waited(family, self.settings, self.clips[10.0], self.clips[3.0]))
        what = "first step of a request that arrives while 15 others decode, after its own encode"
        detail = f"worst of {len(waits)}: {max(waits):.2f} steps"
        return aims.at_most(what, 2.0, spread.median(waits), "{:.2f} steps", detail)

    def server_hop(self, server: Target) -> list[Row]:
        """Subtract the time of the same clip in this process, with as many threads, from a request through asr_ensemble."""
        family = in_process.open_family(self.settings, slots=1)
        rows = []
        with AsrClient(server.grpc, pool=PoolConfig(min_channels=1)) as client:
            for seconds, most_share in ((1.0, None), (10.0, 0.05)):
                inside = timed(partial(in_process.decode, family, self.clips[seconds]))
                through = timed(partial(client.transcribe, self.clips[seconds]))
                alone, request = compared({"in process": inside, "request": through}, self.seconds).values()
                cost = spread.median([a - b for a, b in zip(request.rounds, alone.rounds, strict=True)])
                usual = spread.median(alone.rounds)
                what = f"request minus the clip in-process, {seconds:g} s, 1 caller"
                aim = "<= 3 ms" if most_share is None else f"<= 3 ms and <= {100 * most_share:g} %"
                reached = cost <= 0.003 and (most_share is None or cost / usual <= most_share)
                times = f"{1000 * usual:.1f} -> {1000 * spread.median(request.rounds):.1f} ms"
                measured = f"{1000 * cost:.1f} ms, {cost / usual:.1%}"
                rows.append(Row(what, aim, measured, reached, f"{times}, {aims.rounds(request)}"))
        return rows

    def many_callers(self, server: Target) -> list[Row]:
        """Compare continuous batching with one slot and vendor graphs, 16 callers with 3 s clips. The server has both."""
        pool = PoolConfig(min_channels=SLOTS)

        def asked(client: AsrClient) -> Measured:
            return callers([lambda: client.transcribe(self.clips[3.0]).text] * SLOTS, each=2)

        with (
            AsrClient(server.grpc, pool=pool) as new,
            AsrClient(server.grpc, model="ladder_in_process", pool=pool) as old,
        ):
            vendor, ours = compared({"vendor": partial(asked, old), "ours": partial(asked, new)}, self.seconds).values()
        tail = spread.percentile(ours.latencies, 99) / spread.median(ours.latencies)
        what = "16 callers, 3 s clips, throughput against one slot and vendor graphs"
        requests = f"{len(ours.latencies)} requests"
        return [faster(what, 2.0, vendor, ours), aims.at_most("the same, p99 / p50", 2.5, tail, "{:.2f}", requests)]

    def memory(self, server: Target, requests: int) -> Row:
        """Compare memory of decoder_loop's process, all slots used, before and after ``requests`` requests of 1 and 3 s."""
        short = [self.clips[1.0], self.clips[3.0]]
        with AsrClient(server.grpc) as client:
            list(client.transcribe_many([self.clips[10.0]] * 2 * SLOTS, concurrency=SLOTS))
            before = machine_load.of_decoder(server).resident
            list(client.transcribe_many((short[index % 2] for index in range(requests)), concurrency=SLOTS))
            after = machine_load.of_decoder(server).resident
        what = f"memory of the decoder_loop process, {SLOTS} slots, over {requests} requests"
        reached = after <= 600 and after - before < 0.05 * before
        detail = "resident; before: after 32 clips of 10 s"
        return Row(what, "<= 600 MB, flat", f"{after:.0f} MB, {after - before:+.0f}", reached, detail)


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
    around = sorted(steps, key=lambda step: abs(step[0] - first))[:10]
    return (first - row.encoded_at) / spread.median([seconds for _, seconds in around])
