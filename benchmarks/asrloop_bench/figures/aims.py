"""Figures with an aim: one row each of the tables that say whether it is reached."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from asrloop_bench.method import markdown, spread
from asrloop_bench.method.interleave import Measured, interleave


class Row(NamedTuple):
    what: str
    aim: str
    measured: str
    reached: bool
    detail: str = ""


def table(rows: Sequence[Row]) -> str:
    cells = [[one.what, one.aim, one.measured, "yes" if one.reached else "no", one.detail] for one in rows]
    return markdown.table(["what", "aim", "measured", "reached", "detail"], cells)


def at_most(what: str, limit: float, measured: float, form: str, detail: str = "") -> Row:
    """Return the row of a number and its limit, both shown by ``form`` such as ``{:.1f} ms``."""
    return Row(what, f"<= {form.format(limit)}", form.format(measured), measured <= limit, detail)


def at_least(what: str, limit: float, measured: float, form: str, detail: str = "") -> Row:
    return Row(what, f">= {form.format(limit)}", form.format(measured), measured >= limit, detail)


def compared(arms: Mapping[str, Callable[[], Measured]], seconds: float) -> dict[str, Measured]:
    """Interleave the arms for about ``seconds``."""
    return interleave(arms, least_rounds=5, most_rounds=200, seconds=seconds)


def faster(what: str, aim: float, base: Measured, ours: Measured) -> Row:
    """Return the row that says how many times faster ``ours`` is than ``base``."""
    gain = spread.ratio(base.rounds, ours.rounds)
    detail = f"{1000 * spread.median(base.rounds):.2f} -> {1000 * spread.median(ours.rounds):.2f} ms, {rounds(ours)}"
    return Row(what, f">= {aim:g}x", f"{gain}x", gain.estimate >= aim, detail)


def rounds(measured: Measured) -> str:
    return f"±{spread.half_range(measured.rounds):.0%}, {len(measured.rounds)} rounds"
