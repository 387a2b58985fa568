"""Goes over the cells of the ladder, round by round: first which layout suits each arm, then all arms in turns."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from asrloop_bench.ladder.arms import Arms
from asrloop_bench.load.turn import Turn
from asrloop_bench.method import machine_load, spread
from asrloop_bench.method.clips import Clip

Cells = dict[str, dict[str, Any]]
"""Plain data by the cell's name."""
Tried = dict[str, dict[str, dict[str, list[float]]]]
"""Seconds per request of each round, by arm, layout, and number of callers as a string."""
Progress = Callable[[str], None]
"""Is told what comes next, before every cell of every round."""

LAYOUT_ROUNDS = 3


def cell_name(clip_seconds: float, count: int) -> str:
    """Key of a cell in the saved JSON."""
    return f"{clip_seconds:g} s, {count} caller{'s' if count > 1 else ''}"


def try_layouts(arms: Arms, clip: Clip, counts: Sequence[int], progress: Progress, tried: Tried) -> None:
    """Measure the arms that have several layouts in all of them, into ``tried``. Raises LoadError."""
    choices = [(name, layout) for name, layouts in arms.items() if len(layouts) > 1 for layout in layouts]
    for number in range(-1, LAYOUT_ROUNDS):  # the first is the warm-up
        for count in counts:
            progress(f"layouts, {cell_name(clip.seconds, count)}")
            for name, layout in _rotated(choices, number):
                turn = arms[name][layout](count, [clip.name], _seconds(clip, count) if number >= 0 else 0.0)
                if number >= 0:
                    found = tried.setdefault(name, {}).setdefault(layout, {}).setdefault(str(count), [])
                    found.append(round(_number(turn), 6))


def best(arms: Arms, tried: Tried, count: int) -> dict[str, str]:
    """The fastest layout of each arm with so many callers."""
    return {
        name: min(layouts, key=lambda layout: spread.median(tried[name][layout][str(count)]))
        if name in tried
        else next(iter(layouts))
        for name, layouts in arms.items()
    }


def measure(
    arms: Arms,
    clips: Sequence[Clip],
    counts: Sequence[int],
    tried: Tried,
    rounds: int,
    until: float,
    progress: Progress,
    cells: Cells,
    loads: list[dict[str, float]],
) -> None:
    """``rounds`` times every cell with every arm into ``cells``. Starts no round after ``until`` on the monotonic clock.

    Raises LoadError.
    """
    order = [(count, clip) for count in sorted(counts) for clip in clips]
    layouts = {count: best(arms, tried, count) for count in counts}
    for count, clip in order:
        progress(f"warm-up, {cell_name(clip.seconds, count)}")
        for name, layout in layouts[count].items():
            arms[name][layout](count, [clip.name], 0.0)
    for number in range(rounds):
        if time.monotonic() > until:
            return
        before = machine_load.now()
        for count, clip in order:
            progress(f"round {number + 1}, {cell_name(clip.seconds, count)}")
            turns = {
                name: arms[name][layout](count, [clip.name], _seconds(clip, count))
                for name, layout in _rotated(list(layouts[count].items()), number)
            }
            for name, layout in layouts[count].items():
                _keep(cells, clip, count, name, layout, turns[name])
        loads.append(machine_load.between(before, machine_load.now()))


def _seconds(clip: Clip, count: int) -> float:
    """How long a turn lasts: some requests of the faster arms. Every caller makes one at least."""
    return max(0.5, 0.1 * clip.seconds) if count == 1 else max(1.0, 0.4 * clip.seconds)


def _number(turn: Turn) -> float:
    """Seconds per request: latency of one caller, the inverse of the throughput of several."""
    return spread.median(turn.latencies) if turn.callers == 1 else turn.seconds_per_request()


def _keep(cells: Cells, clip: Clip, count: int, name: str, layout: str, turn: Turn) -> None:
    cell = cells.setdefault(
        cell_name(clip.seconds, count), {"clip_seconds": clip.seconds, "callers": count, "arms": {}}
    )
    arm = cell["arms"].setdefault(name, {"layout": layout, "rounds": [], "latencies": [], "texts": []})
    arm["rounds"].append(round(_number(turn), 6))
    arm["latencies"] += [round(seconds, 5) for seconds in turn.latencies]
    arm["texts"] = sorted({*arm["texts"], *(text for texts in turn.texts.values() for text in texts)})


def _rotated(items: Sequence[tuple[str, str]], number: int) -> Iterator[tuple[str, str]]:
    """Each arm is first in turns: what follows another load is a little different."""
    start = number % len(items) if items else 0
    yield from items[start:]
    yield from items[:start]
