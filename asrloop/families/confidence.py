"""Confidence of a transcript, 0..1, from the probabilities of its tokens."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Calibration(NamedTuple):
    """Platt scaling: maps log odds of the geometric mean of the tokens' probabilities to those of the share of right words."""

    offset: float = 0.0
    slope: float = 1.0


UNCALIBRATED = Calibration()
"""Keeps the geometric mean."""


def confidence(log_probs: Sequence[float], calibration: Calibration = UNCALIBRATED) -> float:
    """Return the confidence for ``log_probs``, the natural logarithm of each token's probability; 0 without tokens."""
    if not log_probs:
        return 0.0
    mean = min(math.exp(math.fsum(log_probs) / len(log_probs)), 1 - 1e-6)
    if mean <= 0.0:
        return 0.0
    odds = calibration.offset + calibration.slope * math.log(mean / (1 - mean))
    return 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(odds) / (1 + math.exp(odds))
