"""The fit finds what made the data, and clips that it has not seen are judged by the others."""

import math

import numpy as np
import pytest
from asrloop_bench.figures.confidence import Heard, fit, table, unseen

from asrloop.families.confidence import Calibration, confidence


def made(calibration: Calibration, clips: int, seed: int) -> list[Heard]:
    """Clips whose words are right as often as ``calibration`` says."""
    random = np.random.default_rng(seed)
    heard = []
    for mean in random.uniform(0.3, 0.99, clips):
        log_probs = [math.log(mean)] * 10
        heard.append(Heard(log_probs, int(random.binomial(40, confidence(log_probs, calibration))), 40))
    return heard


def test_the_fit_finds_the_constants_that_made_the_data() -> None:
    truth = Calibration(offset=-0.5, slope=1.4)
    assert fit(made(truth, 2000, seed=1)) == pytest.approx(truth, abs=0.05)


def test_a_clip_is_judged_without_itself() -> None:
    heard = made(Calibration(), 100, seed=2)
    liar = heard[0]._replace(right=0)
    assert unseen([liar, *heard[1:]])[0] == unseen(heard)[0]


def test_the_table_counts_every_clip_once_and_says_how_far_off_it_is() -> None:
    heard = made(Calibration(), 300, seed=3)
    rows = table(heard, unseen(heard))
    assert sum(int(row.split("|")[2]) for row in rows[2:-2]) == 300
    apart = float(rows[-1].split(" are ")[1].split()[0])
    assert apart < 0.05
    assert float(table(heard, [0.5] * 300)[-1].split(" are ")[1].split()[0]) > 0.1
