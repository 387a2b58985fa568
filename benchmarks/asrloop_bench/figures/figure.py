"""One line of a table of figures: what is measured, what is aimed at, what came out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asrloop.audio import Samples
from asrloop.engine.family import Family
from asrloop.families import offline
from asrloop_bench.method import spread
from asrloop_bench.method.interleave import Measured, interleave

SLOTS = 16


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    aim: str
    measured: str
    reached: bool
    detail: str


def compared(arms: Mapping[str, Callable[[], Measured]], seconds: float) -> dict[str, Measured]:
    """Interleave the arms for about ``seconds``."""
    return interleave(arms, least_rounds=5, most_rounds=200, seconds=seconds)


def faster(what: str, aim: float, base: Measured, ours: Measured) -> Figure:
    """How many times faster ``ours`` is than ``base``."""
    gain = spread.ratio(base.rounds, ours.rounds)
    detail = f"{1000 * spread.median(base.rounds):.2f} -> {1000 * spread.median(ours.rounds):.2f} ms, {rounds(ours)}"
    return Figure(what, f">= {aim:g}x", f"{gain}x", gain.estimate >= aim, detail)


def tokens_alone(family: Family[Any], samples: Samples) -> list[int]:
    """Tokens of one utterance f32 [N], 16 kHz, alone in slot 0."""
    (decoded,) = offline.decode(family, [family.encode(samples)])
    return decoded.tokens


def rounds(measured: Measured) -> str:
    """Their spread and number."""
    return f"±{spread.half_range(measured.rounds):.0%}, {len(measured.rounds)} rounds"


def markdown(figures: Sequence[Figure]) -> str:
    """The figures as a table."""
    lines = ["| what | aim | measured | reached | detail |", "| --- | --- | --- | --- | --- |"]
    for one in figures:
        reached = "yes" if one.reached else "no"
        lines.append(f"| {one.what} | {one.aim} | {one.measured} | {reached} | {one.detail} |")
    return "\n".join(lines)
