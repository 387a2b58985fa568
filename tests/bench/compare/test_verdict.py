"""A slowdown fails, noise does not, few rounds say so; a file is refused as the other commit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asrloop_bench.cli import app
from asrloop_bench.compare import tree, verdict
from typer.testing import CliRunner

NOISE = 0.03


def cells(seed: int, slower: float = 1.0, rounds: int = 10) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    load = np.exp(random.normal(0, 0.3, rounds))
    arms = {"base": 0.010, "new": 0.010 * slower}
    return {
        "1s-1": {
            arm: {"p50": list(time * load * np.exp(random.normal(0, NOISE, rounds)))} for arm, time in arms.items()
        }
    }


@pytest.mark.parametrize("seed", range(20))
def test_a_slowdown_fails_and_noise_does_not(seed: int) -> None:
    (slow,), (same,) = (verdict.findings(cells(seed, slower), 0.05) for slower in (1.15, 1.0))
    assert (slow.fails, slow.word) == (True, "SLOWER")
    assert not same.fails


def test_five_rounds_judge_nothing() -> None:
    (finding,) = verdict.findings(cells(0, 2.0, rounds=5), 0.05)
    assert (finding.fails, finding.word) == (False, "too few")


def test_a_saved_run_is_refused_as_the_other_commit(tmp_path: Path) -> None:
    saved = tmp_path / "baseline.json"
    saved.write_text("{}")
    result = CliRunner().invoke(app, ["compare", str(saved)])
    assert result.exit_code == 1
    with pytest.raises(tree.TreeError, match="is a file. Times of two machines"):
        tree.set_up(str(saved))
    with pytest.raises(tree.TreeError, match="is no commit of this repository"):
        tree.set_up("no-such-commit")


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("0.1", 0.1), ("150%", 1.5)])
def test_shares_are_read(text: str, share: float) -> None:
    assert verdict.parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "ten", "0", "-5%", "2000%"])
def test_shares_that_make_no_sense_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="--fail-above"):
        verdict.parse_share(text)
