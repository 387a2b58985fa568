"""Measures arms over clips and numbers of callers, cell by cell, and turns the result into plain data and a table."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from asrloop_bench import spread
from asrloop_bench.clips import Clip
from asrloop_bench.interleave import Measured, Transcribe, callers, interleave
from asrloop_bench.ladder import RUNGS

Result = dict[str, Any]
LEAST_ROUNDS, MOST_ROUNDS = 3, 60


def cell_name(clip_seconds: float, count: int) -> str:
    """Key of a cell in the saved JSON."""
    return f"{clip_seconds:g} s, {count} caller{'s' if count > 1 else ''}"


def measure_cell(
    arms: Mapping[str, Sequence[Transcribe]], clip: Clip, seconds: float, least_rounds: int = LEAST_ROUNDS
) -> Result:
    """Interleave the arms on one clip; each arm's callers ask once a round."""
    measured = interleave(
        {name: _round(requests) for name, requests in arms.items()},
        warm_up={name: _round(requests[:1]) for name, requests in arms.items()},
        least_rounds=least_rounds, most_rounds=MOST_ROUNDS, seconds=seconds,
    )  # fmt: skip
    return {
        "clip_seconds": clip.seconds,
        "callers": max(len(requests) for requests in arms.values()),
        "arms": {name: _plain(one) for name, one in measured.items()},
    }


def tables(cells: Mapping[str, Result], descriptions: Mapping[str, str]) -> Iterator[Table]:
    """A table a cell: medians, spread, and ratios to the first arm (with 95 % intervals) and to the arm before."""
    for cell, result in cells.items():
        made = Table(
            "arm",
            "ms/request",
            "spread",
            "p50 ms",
            "p99 ms",
            "x first",
            "x before",
            "text",
            title=cell,
            title_justify="left",
        )
        arms = list(result["arms"].items())
        first = arms[0][1]
        for index, (name, arm) in enumerate(arms):
            gain = spread.ratio(first["rounds"], arm["rounds"])
            before = spread.ratio(arms[index - 1][1]["rounds"], arm["rounds"]).estimate if index else 1.0
            made.add_row(
                descriptions.get(name, name),
                f"{1000 * spread.median(arm['rounds']):.1f}",
                f"±{spread.half_range(arm['rounds']):.0%}",
                f"{1000 * spread.median(arm['latencies']):.1f}",
                f"{1000 * percentile(arm['latencies'], 99):.1f}",
                f"{gain.estimate:.2f} ({gain.low:.2f}-{gain.high:.2f})",
                f"{before:.2f}",
                "same" if set(arm["texts"]) == set(first["texts"]) else "differs",
            )
        made.caption = f"{len(first['rounds'])} rounds"
        yield made


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` per cent of ``values`` lie, without interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


def numbered_rungs() -> dict[str, str]:
    """Descriptions of the rungs with their numbers."""
    return {name: f"{number} {text}" for number, (name, text) in enumerate(RUNGS.items(), 1)}


def time_left(until: float) -> float:
    """Seconds until a moment of the monotonic clock, at least 0."""
    return max(0.0, until - time.monotonic())


def _round(requests: Sequence[Transcribe]) -> Callable[[], Measured]:
    return lambda: callers(requests)


def _plain(measured: Measured) -> Result:
    return {
        "rounds": [round(value, 6) for value in measured.rounds],
        "latencies": [round(value, 6) for value in measured.latencies],
        "texts": sorted(measured.texts),
    }
