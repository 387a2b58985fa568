"""The gate against regressions: did an arm become slower relative to a reference that was measured in the same rounds?"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from asrloop_bench.method import spread

# Arms that this project's code decides about, and what they are compared with: the vendor's graphs in the same server.
GUARDED = ("clean", "continuous")
REFERENCE = "in_process"
LEAST_ROUNDS = 5
CONFIDENCE = 0.99


class Finding(NamedTuple):
    """One arm in one cell (clip length, callers): the factor of its relative time, new over old."""

    cell: str
    arm: str
    change: spread.Interval
    fails: bool


def parse_share(text: str) -> float:
    """``10%`` or ``0.1`` as 0.1."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"--fail-above is {text!r}; give a share such as 10% or 0.1") from None
    if not 0 < share < 10:
        raise ValueError(f"--fail-above is {text!r}; give more than 0 and less than 1000%")
    return share


def compare(old: Mapping[str, Any], new: Mapping[str, Any], fail_above: float) -> list[Finding]:
    """Findings for every cell that both runs have.

    An arm fails when its relative time grew by more than ``fail_above`` and the interval of the change leaves out "no
    change". Raises ValueError when there is nothing to compare.
    """
    findings = list(_findings(old["cells"], new["cells"], fail_above))
    if not findings:
        raise ValueError(
            f"nothing to compare: both files need a common cell with {REFERENCE}, one of {', '.join(GUARDED)} "
            f"and {LEAST_ROUNDS} rounds"
        )
    return findings


def _findings(old: Mapping[str, Any], new: Mapping[str, Any], fail_above: float) -> Iterator[Finding]:
    for cell in (name for name in new if name in old):
        for arm in GUARDED:
            after, before = (_pair(run[cell]["arms"], arm) for run in (new, old))
            if after is not None and before is not None:
                change = spread.change(after, before, confidence=CONFIDENCE)
                yield Finding(cell, arm, change, change.estimate > 1 + fail_above and change.low > 1)


def _pair(arms: Mapping[str, Any], arm: str) -> tuple[list[float], list[float]] | None:
    if arm not in arms or REFERENCE not in arms or len(arms[arm]["rounds"]) < LEAST_ROUNDS:
        return None
    return arms[arm]["rounds"], arms[REFERENCE]["rounds"]
