"""Measures the arms on one clip with one number of callers, and turns the result into plain data."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asrloop_bench.method.clips import Clip
from asrloop_bench.method.interleave import Measured, Transcribe, callers, interleave

Result = dict[str, Any]
LEAST_ROUNDS, MOST_ROUNDS = 5, 60


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


def _round(requests: Sequence[Transcribe]) -> Callable[[], Measured]:
    return lambda: callers(requests)


def _plain(measured: Measured) -> Result:
    return {
        "rounds": [round(value, 6) for value in measured.rounds],
        "latencies": [round(value, 6) for value in measured.latencies],
        "texts": sorted(measured.texts),
    }
