"""A round of streams that are played at a time, and what is told of it."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from asrloop_bench.figures.live.playing import Judged, Played, judged, play
from asrloop_bench.figures.live.recordings import Recording
from asrloop_bench.method import machine_load, spread
from asrloop_bench.terminal import print_notes

MOST_LAG = 2.0
"""Seconds of lag that a stream may have."""


class Round(NamedTuple):
    recordings: Sequence[Recording]
    played: Sequence[Played]
    judged: Sequence[Judged]
    others: float
    """Cores that others kept busy meanwhile."""

    @property
    def lag(self) -> float:
        return max(one.lag for one in self.judged)


def played_round(
    address: str, recordings: Sequence[Recording], ends: Sequence[Sequence[float]] | None = None, **options: Any
) -> Round:
    """Play the recordings at a time; ``ends`` and ``options`` are those of ``play``."""
    before = machine_load.now()
    played = play(address, [one.joined.samples for one in recordings], ends, **options)
    meanwhile = machine_load.between(before, machine_load.now())
    print_notes([f"a stream failed: {one.error}" for one in played if one.error is not None])
    pairs = zip(played, recordings, strict=True)
    verdicts = [judged(one, each.joined.seconds, each.joined.speech) for one, each in pairs]
    return Round(recordings, played, verdicts, meanwhile["cores_others"] + meanwhile["cores_stolen"])


def counts_in(streams: str) -> list[int]:
    """Return the numbers of streams that the option names. Raises ValueError."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", streams):
        raise ValueError(f"--streams {streams}: give whole numbers of 1 or more with commas, such as 1,4,8,12")
    return [int(each) for each in streams.split(",")]


def times(values: Sequence[float]) -> str:
    """Return p50, p95 and the number of ``values``, which are seconds."""
    if not values:
        return "none"
    p50, p95 = (1000 * spread.percentile(values, percent) for percent in (50, 95))
    return f"{p50:.0f} / {p95:.0f} ms ({len(values)})"
