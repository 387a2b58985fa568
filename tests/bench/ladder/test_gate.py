"""The gate catches a slowdown that was planted, and no noise."""

import copy
from typing import Any

import numpy as np
import pytest
from asrloop_bench.ladder import gate

CELLS = ("1 s, 1 caller", "10 s, 1 caller", "1 s, 4 callers")
NOISE = 0.08


def ladder(seed: int, slower: float = 1.0, rounds: int = 12) -> dict[str, Any]:
    """A saved run: the machine's load is the same for all arms of a round, and each arm has some noise of its own."""
    random = np.random.default_rng(seed)
    cells = {}
    for cell in CELLS:
        load = np.exp(random.normal(0, 0.3, rounds))
        times = {"in_process": 0.050, "clean": 0.030 * slower, "continuous": 0.028 * slower}
        arms = {
            name: {"rounds": list(seconds * load * np.exp(random.normal(0, NOISE, rounds)))}
            for name, seconds in times.items()
        }
        cells[cell] = {"arms": arms}
    return {"cells": cells}


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_slowdown_of_a_fifth_fails(seed: int) -> None:
    findings = gate.compare(ladder(seed), ladder(1000 + seed, slower=1.2), 0.1)
    assert any(finding.fails for finding in findings)


@pytest.mark.parametrize("seed", range(20))
def test_pure_noise_passes(seed: int) -> None:
    findings = gate.compare(ladder(seed), ladder(1000 + seed), 0.1)
    assert len(findings) == 2 * len(CELLS)
    assert not any(finding.fails for finding in findings)


def test_a_machine_that_is_slower_as_a_whole_passes() -> None:
    old = ladder(1)
    new = copy.deepcopy(old)
    for cell in new["cells"].values():
        for arm in cell["arms"].values():
            arm["rounds"] = [3 * seconds for seconds in arm["rounds"]]
    assert [finding.change.estimate for finding in gate.compare(old, new, 0.1)] == pytest.approx([1.0] * 6)


def test_runs_that_share_nothing_are_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        gate.compare(ladder(1), ladder(2, rounds=gate.LEAST_ROUNDS - 1), 0.1)


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("0.1", 0.1), ("150%", 1.5)])
def test_shares_are_read(text: str, share: float) -> None:
    assert gate.parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "ten", "0", "-5%", "2000%"])
def test_shares_that_make_no_sense_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="--fail-above"):
        gate.parse_share(text)
