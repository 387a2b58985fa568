"""Medians, percentiles, their spread, and intervals for ratios of interleaved arms, by bootstrap."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000


class Interval(NamedTuple):
    """An estimate and the bounds it lies in with the confidence asked for."""

    estimate: float
    low: float
    high: float


def median(values: Sequence[float]) -> float:
    """The median."""
    return float(np.median(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of ``values`` that at least ``percent`` per cent of them do not exceed: a value that was measured."""
    return float(np.percentile(values, percent, method="inverted_cdf"))


def half_range(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a share of the median: the usual deviation of one value."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float((high - low) / 2 / middle)


def ratio(
    numerator: Sequence[float], denominator: Sequence[float], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The median ratio of two arms measured in the same rounds; the bootstrap draws whole rounds (Efron and Tibshirani, 1993)."""
    return _interval(
        _log_medians(_log_ratios(numerator, denominator), seed),
        np.log(_paired_median(numerator, denominator)),
        confidence,
    )


def change(
    new: tuple[Sequence[float], Sequence[float]],
    old: tuple[Sequence[float], Sequence[float]],
    confidence: float = 0.99,
    seed: int = 0,
) -> Interval:
    """By what factor an arm's ratio to its reference differs between two runs; each pair is (arm, reference) of one run."""
    estimate = np.log(_paired_median(*new)) - np.log(_paired_median(*old))
    samples = _log_medians(_log_ratios(*new), seed) - _log_medians(_log_ratios(*old), seed + 1)
    return _interval(samples, estimate, confidence)


def _log_ratios(numerator: Sequence[float], denominator: Sequence[float]) -> NDArray[np.float64]:
    if len(numerator) != len(denominator) or not numerator:
        raise ValueError(
            f"{len(numerator)} and {len(denominator)} rounds; arms of one run have equally many, at least one"
        )
    return np.asarray(np.log(np.asarray(numerator, np.float64) / np.asarray(denominator, np.float64)))


def _paired_median(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    return float(np.exp(np.median(_log_ratios(numerator, denominator))))


def _log_medians(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    return np.asarray(np.median(values[draws], axis=1))


def _interval(samples: NDArray[np.float64], estimate: float, confidence: float) -> Interval:
    low, high = np.percentile(samples, [50 * (1 - confidence), 50 * (1 + confidence)])
    return Interval(*(float(np.exp(value)) for value in (estimate, low, high)))
