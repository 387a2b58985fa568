"""Goes over the cells of the ladder, round by round, with all arms in turns."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from asrloop_bench.ladder.arms import Arms
from asrloop_bench.ladder.layouts import FASTEST
from asrloop_bench.load.turn import Turn
from asrloop_bench.method import machine_load, spread
from asrloop_bench.method.clips import Clip
from asrloop_bench.method.interleave import rotated

Cells = dict[str, dict[str, Any]]
"""Plain data by the cell's name."""
Progress = Callable[[str], None]
"""Is given the name of what comes next, before every cell of every round."""


def cell_name(clip_seconds: float, count: int) -> str:
    """Return the key of a cell in the saved JSON."""
    return f"{clip_seconds:g} s, {count} caller{'s' if count > 1 else ''}"


def measure(
    arms: Arms,
    clips: Sequence[Clip],
    counts: Sequence[int],
    rounds: int,
    until: float,
    progress: Progress,
    cells: Cells,
    loads: list[dict[str, float]],
) -> None:
    """Measure every cell ``rounds`` times with every arm into ``cells``. Starts no round after ``until`` on the monotonic clock.

    Raises LoadError.
    """
    order = [(count, clip) for count in sorted(counts) for clip in clips]

    def turn(name: str, clip: Clip, count: int, seconds: float) -> Turn:
        return arms[name][FASTEST[name].of(count)](count, [clip.name], seconds)

    for count, clip in order:
        progress(f"warm-up, {cell_name(clip.seconds, count)}")
        for name in arms:
            turn(name, clip, count, 0.0)
    for number in range(rounds):
        if time.monotonic() > until:
            return
        before = machine_load.now()
        for count, clip in order:
            progress(f"round {number + 1}, {cell_name(clip.seconds, count)}")
            turns = {name: turn(name, clip, count, _seconds(clip, count)) for name in rotated(list(arms), number)}
            for name in arms:
                _keep(cells, clip, count, name, turns[name])
        loads.append(machine_load.between(before, machine_load.now()))


def _seconds(clip: Clip, count: int) -> float:
    """Return the length of a turn: some requests of the faster arms. Every caller makes one at least."""
    return max(0.5, 0.1 * clip.seconds) if count == 1 else max(1.0, 0.4 * clip.seconds)


def _keep(cells: Cells, clip: Clip, count: int, name: str, turn: Turn) -> None:
    empty: dict[str, Any] = {"clip_seconds": clip.seconds, "callers": count, "arms": {}}
    cell = cells.setdefault(cell_name(clip.seconds, count), empty)
    layout = FASTEST[name].of(count)
    arm = cell["arms"].setdefault(name, {"layout": layout, "rounds": [], "latencies": [], "texts": []})
    # Latency of one caller, the inverse of the throughput of several.
    taken = spread.median(turn.latencies) if turn.callers == 1 else turn.seconds_per_request()
    arm["rounds"].append(round(taken, 6))
    arm["latencies"] += [round(seconds, 5) for seconds in turn.latencies]
    arm["texts"] = sorted({*arm["texts"], *(text for texts in turn.texts.values() for text in texts)})
