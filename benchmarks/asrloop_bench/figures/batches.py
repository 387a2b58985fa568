"""How many batches one engine, one server and two carry: real engine, interpreter and tritonserver, graphs that sleep."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from asrloop_bench.batches import server as servers
from asrloop_bench.batches.load import CALLERS, CORES, Load, on_engine
from asrloop_bench.batches.recording import recorded
from asrloop_bench.batches.sleeping import ROWS, Times
from asrloop_bench.figures import aims
from asrloop_bench.figures.figure import Run, speech
from asrloop_bench.load import callers
from asrloop_bench.load.generators import write_clips
from asrloop_bench.method import markdown, spread
from asrloop_bench.method.clips import Clip
from asrloop_bench.method.interleave import rotated

BATCHES = (1, 2, 4, 8, 16)
AIMS = {4: 3.6, 8: 6.5}
"""Throughput, as a multiple of that of one batch."""

TAIL = 2.0
"""p99 by p50."""

ENGINE, SERVER, TWO = "engine", "tritonserver", "two tritonservers"
WAYS = (ENGINE, SERVER, TWO)
Rounds = Mapping[tuple[str, int], Sequence[Load]]
"""By the way and the number of batches, one a round."""


def batches(
    run: Run,
    seconds: Annotated[float, typer.Option(help="Time for each load.")] = 3.0,
    rounds: Annotated[int, typer.Option(help="Rounds; tritonservers are started once for each number of batches.")] = 3,
) -> str:
    """Measure what engine, interpreter and tritonserver carry with 1 to 16 batches whose graphs sleep as long as they take."""
    clips = speech(1.0, 10.0)
    times = {f"{length:g} s": recorded(samples, run.settings) for length, samples in clips.items()}
    found = {name: measured(run, name, one, seconds, rounds) for name, one in times.items()}
    return "\n\n".join(
        [table(found), aims.table(rows(found)), *(words(name, times[name], found[name]) for name in times)]
    )


def measured(run: Run, name: str, times: Times, seconds: float, rounds: int) -> Rounds:
    """Return the loads of a clip; in the engine all numbers of batches come in each round."""
    found: dict[tuple[str, int], list[Load]] = {}
    for number in range(rounds):
        run.step(f"{name}, {ENGINE}, round {number + 1}")
        for count in BATCHES:
            found.setdefault((ENGINE, count), []).append(on_engine(times, count, seconds))
    with tempfile.TemporaryDirectory() as scratch:
        file = write_clips(Path(scratch, "clips.npz"), [Clip("clip", servers.clip())])
        command = [sys.executable, callers.__file__, str(file)]
        for count in BATCHES:
            run.step(f"{name}, {SERVER}, {count} batches")
            with ExitStack() as stack:
                running = {SERVER: [stack.enter_context(servers.started(times, count, run.settings))]}
                if count > 1:
                    half = (servers.started(times, count // 2, run.settings) for _ in range(2))
                    running[TWO] = [stack.enter_context(one) for one in half]
                for way in (way for number in range(rounds) for way in rotated(list(running), number)):
                    load = servers.on_servers(running[way], count, seconds, command)
                    found.setdefault((way, count), []).append(load)
    return found


def gain(found: Rounds, way: str, count: int) -> spread.Ratio:
    """Return the throughput with ``count`` batches by that with one, which two servers cannot have."""
    base = SERVER if way == TWO else way
    many, one = ([load.requests_a_second for load in loads] for loads in (found[way, count], found[base, 1]))
    return spread.ratio(many, one)


def table(found: Mapping[str, Rounds]) -> str:
    """Return requests a second, times those of one batch, and p99 by p50."""

    def cell(loads: Rounds, way: str, count: int) -> str:
        here = loads.get((way, count))
        if not here:
            return "-"
        rate = spread.median([load.requests_a_second for load in here])
        tail = spread.median([load.tail for load in here])
        return f"{rate:.0f} ({gain(loads, way, count).estimate:.1f}x), {tail:.1f}"

    lines = [
        [
            str(count),
            str(CORES * count),
            *(cell(loads, way, count) for loads in found.values() for way in WAYS),
        ]
        for count in BATCHES
    ]
    heads = ["batches", "cores", *(f"{name}, {way}" for name in found for way in WAYS)]
    return (
        "Requests a second (times those of one batch), and p99 / p50 of latency:\n\n"
        f"{markdown.table(heads, lines, numbers_from=0)}"
    )


def rows(found: Mapping[str, Rounds]) -> list[aims.Row]:
    """Return what is asked beside what was measured."""
    made = []
    for name, loads in found.items():
        for way in (ENGINE, SERVER):
            for count, aim in AIMS.items():
                what = f"{name} through the {way}, {count} batches against 1"
                made.append(aims.at_least(what, aim, gain(loads, way, count).estimate, "{:.1f}x"))
                tail = spread.median([load.tail for load in loads[way, count]])
                made.append(aims.at_most("the same, p99 / p50", TAIL, tail, "{:.1f}"))
    return made


def words(name: str, times: Times, found: Rounds) -> str:
    """Say what a clip was recorded to take, and what a request costs the process of the loop beside that."""
    loop = spread.median([load.loop_seconds for count in BATCHES for load in found[SERVER, count]])
    steps = ", ".join(f"{1000 * one:.2f} of {rows}" for rows, one in zip(ROWS, times.steps, strict=True))
    return (
        f"{name}: {1000 * times.encode:.1f} ms to encode and to listen, a step {steps} rows, {times.tokens} tokens; "
        f"{CALLERS} callers for each batch. Behind tritonserver a request takes {1000 * loop:.1f} ms of processor time of the "
        "loop's process."
    )
