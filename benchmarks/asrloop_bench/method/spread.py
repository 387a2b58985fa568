"""Medians, percentiles, their spread, and intervals for ratios of interleaved arms by SciPy's bootstrap."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 4000
FEWEST_ROUNDS = 5
"""With fewer the median of a cell says little; tables say "too few"."""
FEWEST_FOR_INTERVAL = 6
"""With fewer no interval of 95 % exists that rests on the order of the values alone."""


class Ratio(NamedTuple):
    """The median ratio of two arms over ``rounds`` rounds, and the bounds of its interval where there are rounds enough."""

    estimate: float
    low: float | None
    high: float | None
    rounds: int

    @property
    def is_too_few(self) -> bool:
        return self.rounds < FEWEST_ROUNDS

    def inverse(self) -> "Ratio":
        low, high = (None if bound is None else 1 / bound for bound in (self.high, self.low))
        return Ratio(1 / self.estimate, low, high, self.rounds)

    def __str__(self) -> str:
        if self.is_too_few:
            return f"too few ({self.rounds} rounds)"
        if self.low is None or self.high is None:
            return f"{self.estimate:.2f}"
        return f"{self.estimate:.2f} ({self.low:.2f}-{self.high:.2f})"


def median(values: Sequence[float]) -> float:
    return float(np.median(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of ``values`` that at least ``percent`` per cent of them do not exceed: a value that was measured."""
    return float(np.percentile(values, percent, method="inverted_cdf"))


def half_range(values: Sequence[float]) -> float:
    """Return half the distance between the quartiles, as a share of the median: the usual deviation of one value."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float((high - low) / 2 / middle)


def ratio(numerator: Sequence[float], denominator: Sequence[float], confidence: float = 0.95, seed: int = 0) -> Ratio:
    """Return the median ratio of two arms measured in the same rounds; the bootstrap draws whole rounds."""
    if len(numerator) != len(denominator) or not numerator:
        counts = f"{len(numerator)} and {len(denominator)} rounds"
        raise ValueError(f"{counts}; arms of one run have equally many, at least one")
    logs = np.log(np.asarray(numerator, np.float64) / np.asarray(denominator, np.float64))
    estimate, rounds = float(np.exp(np.median(logs))), len(logs)
    if rounds < FEWEST_FOR_INTERVAL:
        return Ratio(estimate, None, None, rounds)
    found = stats.bootstrap(
        (logs,), np.median, confidence_level=confidence, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = np.exp(found.confidence_interval)
    return Ratio(estimate, float(low), float(high), rounds)
