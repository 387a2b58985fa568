"""The statistics do what they promise."""

import numpy as np
import pytest
from asrloop_bench.method import spread

NOISE = 0.08


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [0.4, 0.1, 0.3, 0.2]
    assert [spread.percentile(values, percent) for percent in (1, 50, 75, 99)] == [0.1, 0.2, 0.3, 0.4]
    assert spread.percentile(range(1, 101), 99) == 99


def test_the_interval_of_a_ratio_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        load = np.exp(random.normal(0, 0.3, 20))
        slow, fast = (factor * load * np.exp(random.normal(0, NOISE, 20)) for factor in (2.0, 1.0))
        interval = spread.ratio(list(slow), list(fast), confidence=0.95, seed=trial)
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= 2.0 <= interval.high
    assert 170 <= held <= 200


def test_a_ratio_needs_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="2 and 1 rounds"):
        spread.ratio([1.0, 2.0], [1.0])


def test_few_rounds_give_no_interval_and_fewer_say_so() -> None:
    four, five, six = (spread.ratio([2.0] * 3 + [3.0] * (count - 3), [1.0] * count) for count in (4, 5, 6))
    assert str(four) == "too few (4 rounds)"
    assert (str(five), five.low) == ("2.00", None)
    assert (six.low, six.high) == (pytest.approx(2.0), pytest.approx(3.0))
    assert six.inverse().high == pytest.approx(0.5)
