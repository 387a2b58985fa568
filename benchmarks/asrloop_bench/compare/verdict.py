"""The verdicts of a comparison: for each number the ratio new / base, and whether the new commit fails by it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from asrloop_bench.compare.cells import CELLS, Measure
from asrloop_bench.method import spread

CONFIDENCE = 0.99


class Finding(NamedTuple):
    """One number of one cell. ``change`` is the ratio of times new / base: above 1 the new commit is slower."""

    cell: str
    measure: Measure
    base: float
    new: float
    change: spread.Ratio
    fails: bool

    @property
    def word(self) -> str:
        """``slower``, ``faster``, ``no change shown``, or ``too few`` rounds."""
        if self.change.low is None or self.change.high is None:
            return "too few"
        if self.fails:
            return "SLOWER"
        if self.change.low > 1:
            return "slower, within the limit"
        return "faster" if self.change.high < 1 else "no change shown"


def findings(cells: Mapping[str, Any], limit: float) -> list[Finding]:
    """Judge the saved ``cells``: a number fails when its time grew by more than ``limit`` and its interval leaves 1 out."""
    found = []
    for cell in CELLS:
        saved = cells.get(cell.name, {})
        for measure in cell.measures:
            base, new = (saved.get(arm, {}).get(measure.name, []) for arm in ("base", "new"))
            rounds = min(len(base), len(new))
            if rounds:
                found.append(_finding(cell.name, measure, base[:rounds], new[:rounds], limit))
    return found


def _finding(cell: str, measure: Measure, base: Sequence[float], new: Sequence[float], limit: float) -> Finding:
    change = spread.ratio(new, base, confidence=CONFIDENCE)
    fails = change.low is not None and change.low > 1 and change.estimate > 1 + limit
    return Finding(cell, measure, spread.median(base), spread.median(new), change, fails)


def parse_share(text: str) -> float:
    """Read ``10%`` or ``0.1`` as 0.1. Raises ValueError."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"--fail-above is {text!r}; give a share such as 10% or 0.1") from None
    if not 0 < share < 10:
        raise ValueError(f"--fail-above is {text!r}; give more than 0 and less than 1000%")
    return share
