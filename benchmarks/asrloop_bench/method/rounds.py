"""Measures cells, which are loads, with all arms in turns, round by round."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from asrloop_bench.load.turn import Turn
from asrloop_bench.method import machine_load
from asrloop_bench.method.interleave import rotated

Cell = TypeVar("Cell")


def measure(
    cells: Mapping[str, Cell],
    arms: Sequence[str],
    turn: Callable[[Cell, str], Turn],
    keep: Callable[[Cell, str, Turn], None],
    *,
    rounds: int,
    until: float,
    progress: Callable[[str], None],
    loads: list[dict[str, float]],
) -> None:
    """Give every arm a turn in every cell ``rounds`` times. Starts no round after ``until`` on the monotonic clock.

    ``progress`` is given the name of what comes next; ``loads`` gets the load of the machine in each round.
    """
    for number in range(rounds):
        if time.monotonic() > until:
            return
        before = machine_load.now()
        for index, (name, cell) in enumerate(cells.items()):
            progress(f"round {number + 1}, {name}")
            turns = {arm: turn(cell, arm) for arm in rotated(arms, number + index)}
            for arm in arms:
                keep(cell, arm, turns[arm])
        loads.append(machine_load.between(before, machine_load.now()))
