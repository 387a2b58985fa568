"""The cells of the ladder, measured with all arms in turns."""

from collections.abc import Callable, Sequence
from typing import Any

from asrloop_bench.ladder.arms import Arms
from asrloop_bench.ladder.rungs import ARMS
from asrloop_bench.load.generators import Turn
from asrloop_bench.method import spread
from asrloop_bench.method.clips import Clip
from asrloop_bench.method.interleave import in_rounds

Cells = dict[str, dict[str, Any]]


def measure(
    arms: Arms,
    clips: Sequence[Clip],
    counts: Sequence[int],
    rounds: int,
    until: float,
    progress: Callable[[str], None],
    cells: Cells,
    loads: list[dict[str, float]],
) -> None:
    """Measure every cell ``rounds`` times with every arm into ``cells``; see ``method.interleave``. Raises LoadError."""
    planned = {
        f"{clip.seconds:g} s, {count} caller{'s' if count > 1 else ''}": (clip, count)
        for count in sorted(counts)
        for clip in clips
    }
    names = {cell: name for name, cell in planned.items()}

    def turn(cell: tuple[Clip, int], name: str, is_warm_up: bool = False) -> Turn:
        clip, count = cell
        return arms[name][ARMS[name].layout(count)](count, [clip.name], 0.0 if is_warm_up else _seconds(clip, count))

    def keep(cell: tuple[Clip, int], name: str, turn: Turn) -> None:
        clip, count = cell
        empty: dict[str, Any] = {"clip_seconds": clip.seconds, "callers": count, "arms": {}}
        layout = ARMS[name].layout(count)
        kept = cells.setdefault(names[cell], empty)["arms"]
        arm = kept.setdefault(name, {"layout": layout, "rounds": [], "latencies": [], "texts": []})
        # Latency of one caller, the inverse of the throughput of several.
        taken = spread.median(turn.latencies) if count == 1 else turn.seconds_per_request()
        arm["rounds"].append(round(taken, 6))
        arm["latencies"] += [round(seconds, 5) for seconds in turn.latencies]
        arm["texts"] = sorted({*arm["texts"], *(text for texts in turn.texts.values() for text in texts)})

    for name, cell in planned.items():
        progress(f"warm-up, {name}")
        for arm in arms:
            turn(cell, arm, is_warm_up=True)
    in_rounds(planned, list(arms), turn, keep, rounds=rounds, until=until, progress=progress, loads=loads)


def _seconds(clip: Clip, count: int) -> float:
    """Return the length of a turn: some requests of the faster arms. Every caller makes one at least."""
    return max(0.5, 0.1 * clip.seconds) if count == 1 else max(1.0, 0.4 * clip.seconds)
