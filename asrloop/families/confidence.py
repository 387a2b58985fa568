"""From the probabilities of a transcript's tokens to one number in 0..1."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Calibration(NamedTuple):
    """How the geometric mean of the tokens' probabilities becomes the share of right words, in log odds (Platt scaling)."""

    offset: float = 0.0
    slope: float = 1.0


UNCALIBRATED = Calibration()
"""The geometric mean itself."""


def confidence(log_probs: Sequence[float], calibration: Calibration = UNCALIBRATED) -> float:
    """``log_probs`` are natural logarithms, one a token. Without tokens it is 0: no word is there to be sure of."""
    if not log_probs:
        return 0.0
    mean = min(math.exp(math.fsum(log_probs) / len(log_probs)), 1 - 1e-6)
    if mean <= 0.0:
        return 0.0
    odds = calibration.offset + calibration.slope * math.log(mean / (1 - mean))
    return 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(odds) / (1 + math.exp(odds))
