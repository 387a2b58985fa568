"""How many batches one engine and one server carry: real engine, interpreter and tritonserver, graphs that sleep."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
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

BATCHES = (1, 2, 4, 8, 16)
AIMS = {4: 3.6, 8: 6.5}
"""Throughput, as a multiple of that of one batch."""

TAIL = 2.0
"""p99 by p50."""

ENGINE, SERVER = "engine", "tritonserver"
Rounds = Mapping[tuple[str, int], Sequence[Load]]
"""By the way and the number of batches, one a round."""


def batches(
    run: Run,
    seconds: Annotated[float, typer.Option(help="Time for each load.")] = 3.0,
    rounds: Annotated[int, typer.Option(help="Rounds in the engine; tritonserver is started once for each load.")] = 3,
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
            with servers.started(times, count, run.settings) as server:
                found[SERVER, count] = [servers.on_server(server, count, seconds, command) for _ in range(rounds)]
    return found


def gain(found: Rounds, way: str, count: int) -> spread.Ratio:
    """Return the throughput with ``count`` batches by that with one."""
    many, one = ([load.requests_a_second for load in found[way, number]] for number in (count, 1))
    return spread.ratio(many, one)


def table(found: Mapping[str, Rounds]) -> str:
    """Return requests a second, times those of one batch, and p99 by p50."""

    def cell(loads: Rounds, way: str, count: int) -> str:
        here = loads[way, count]
        rate = spread.median([load.requests_a_second for load in here])
        tail = spread.median([load.tail for load in here])
        return f"{rate:.0f} ({gain(loads, way, count).estimate:.1f}x), {tail:.1f}"

    lines = [
        [
            str(count),
            str(CORES * count),
            *(cell(loads, way, count) for loads in found.values() for way in (ENGINE, SERVER)),
        ]
        for count in BATCHES
    ]
    heads = ["batches", "cores", *(f"{name}, {way}" for name in found for way in (ENGINE, SERVER))]
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
