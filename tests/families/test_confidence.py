"""Confidence is a number in 0..1 whatever the probabilities are, and follows them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrloop.families.confidence import Calibration, confidence
from asrloop.families.moonshine.decoding import CALIBRATION

LOG_PROBS = st.lists(st.floats(-1000, 0), min_size=1, max_size=40)


def test_no_tokens_no_confidence() -> None:
    assert confidence([], CALIBRATION) == 0


def test_uncalibrated_it_is_the_geometric_mean() -> None:
    assert confidence([math.log(0.5), math.log(0.125)]) == pytest.approx(0.25)


@given(LOG_PROBS)
def test_it_is_within_0_and_1(log_probs: list[float]) -> None:
    assert 0 <= confidence(log_probs, CALIBRATION) <= 1


@given(LOG_PROBS, st.floats(0, 50))
def test_better_tokens_do_not_lower_it(log_probs: list[float], better: float) -> None:
    raised = [min(0.0, value + better) for value in log_probs]
    assert confidence(raised, CALIBRATION) >= confidence(log_probs, CALIBRATION) - 1e-9


def test_the_calibration_is_platt_scaling() -> None:
    odds = math.log(0.8 / 0.2) * 2 + 1
    assert confidence([math.log(0.8)], Calibration(1, 2)) == pytest.approx(1 / (1 + math.exp(-odds)))
