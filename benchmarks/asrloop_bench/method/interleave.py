"""Runs arms one after another, round by round, so that whatever disturbs the machine disturbs all of them alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from asrloop_bench.load.generators import Turn
from asrloop_bench.method import machine_load

Cell = TypeVar("Cell")


@dataclass
class Measured:
    """Results of one arm: a number a round, and every request's latency, all in seconds."""

    rounds: list[float] = field(default_factory=list)
    """Time per request: latency with one caller, elapsed time over requests with several."""

    latencies: list[float] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)


def interleave(
    arms: Mapping[str, Callable[[], Measured]], *, least_rounds: int, most_rounds: int, seconds: float
) -> dict[str, Measured]:
    """Run every arm once a round, starting with another one each time, until ``seconds`` are over or ``most_rounds`` made.

    An arm returns the results of its one round. One round before the first is not counted.
    """
    found = {name: Measured() for name in arms}
    names = list(arms)
    for name in names:
        arms[name]()
    until = time.monotonic() + seconds
    for number in range(most_rounds):
        if number >= least_rounds and time.monotonic() > until:
            break
        for name in rotated(names, number):
            one = arms[name]()
            found[name].rounds += one.rounds
            found[name].latencies += one.latencies
            found[name].texts |= one.texts
    return found


def in_rounds(
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


def rotated(names: Sequence[str], number: int) -> list[str]:
    """Return ``names`` with another one first in each round: what follows another load is a little different."""
    first = number % len(names) if names else 0
    return [*names[first:], *names[:first]]


def timed(call: Callable[[], object], repeat: int = 1) -> Callable[[], Measured]:
    """Return an arm that makes the same call ``repeat`` times a round; its number is the mean time of one."""

    def once() -> Measured:
        started = time.perf_counter()
        for _ in range(repeat):
            call()
        took = (time.perf_counter() - started) / repeat
        return Measured([took], [took])

    return once


def callers(requests: Sequence[Callable[[], str]], each: int = 1) -> Measured:
    """Make each of ``requests`` ``each`` times, one after another, on a thread of its own."""

    def ask(request: Callable[[], str]) -> list[tuple[str, float]]:
        made = []
        for _ in range(each):
            started = time.perf_counter()
            made.append((request(), time.perf_counter() - started))
        return made

    started = time.perf_counter()
    if len(requests) == 1:
        made = ask(requests[0])
    else:
        with ThreadPoolExecutor(len(requests)) as pool:
            made = [one for several in pool.map(ask, requests) for one in several]
    elapsed = time.perf_counter() - started
    return Measured([elapsed / len(made)], [seconds for _, seconds in made], {text for text, _ in made})
