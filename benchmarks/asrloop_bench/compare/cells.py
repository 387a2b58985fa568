"""The loads of a comparison, and the numbers that are drawn from each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from asrloop_bench.load.generators import Turn
from asrloop_bench.method import spread

CALLERS = 16


@dataclass(frozen=True)
class Measure:
    """A number of seconds that is drawn from every turn. Smaller is better."""

    name: str
    of: Callable[[Turn], float]
    is_rate: bool = False
    """True for a number that is shown as its inverse, requests per second."""


@dataclass(frozen=True)
class Cell:
    name: str
    callers: int
    mix: dict[float, int]
    """By seconds of a clip: the number of times that it occurs."""
    seconds: float
    """Length of a turn: several times its longest request, so that not only its beginning is counted."""
    measures: Sequence[Measure]
    way: str = "triton"
    """``triton``: NVIDIA's client of this checkout asks both servers. ``client``: each commit's own client asks its own server."""


def _median(turn: Turn) -> float:
    return spread.median(turn.latencies)


def _short_tail(turn: Turn) -> float:
    return spread.percentile(turn.latencies_of([name for name in turn.texts if name.startswith("1s-")]), 95)


ALONE = [Measure("p50", _median)]
MANY = [Measure("requests/s", Turn.seconds_per_request, is_rate=True)]
MIXED = [Measure("p95 of the 1 s clips", _short_tail), *MANY]

CELLS = (
    Cell("1s-1", 1, {1.0: 4}, 0.6, ALONE),
    Cell("3s-1", 1, {3.0: 4}, 0.8, ALONE),
    Cell("10s-1", 1, {10.0: 4}, 1.2, ALONE),
    Cell("1s-16", CALLERS, {1.0: 4}, 2.0, MANY),
    Cell("3s-16", CALLERS, {3.0: 4}, 2.5, MANY),
    Cell("10s-16", CALLERS, {10.0: 4}, 4.0, MANY),
    Cell("mixed-16", CALLERS, {1.0: 4, 3.0: 4, 10.0: 2, 30.0: 1}, 12.0, MIXED),
    Cell("client-1s-1", 1, {1.0: 4}, 0.6, ALONE, way="client"),
    Cell("client-1s-16", CALLERS, {1.0: 4}, 2.0, MANY, way="client"),
)


def chosen(patterns: str) -> list[Cell]:
    """Return the cells whose names match one of the ``patterns``, which have commas between them. Raises ValueError."""
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    unknown = [pattern for pattern in wanted if not any(fnmatch(cell.name, pattern) for cell in CELLS)]
    if unknown:
        raise ValueError(f"--cells: {', '.join(unknown)} unknown; there are {', '.join(cell.name for cell in CELLS)}")
    return [cell for cell in CELLS if any(fnmatch(cell.name, pattern) for pattern in wanted)]
