"""The documents show the saved run, between their markers only."""

from pathlib import Path
from typing import Any

import pytest
from asrloop_bench.cli import app
from asrloop_bench.ladder import command as ladder
from asrloop_bench.ladder import tables
from asrloop_bench.method import markdown
from typer.testing import CliRunner

ABOUT = {
    "time": "2026-01-02 03:04:05 +0000",
    "git_commit": "0123456789",
    "git_changed": True,
    "load_before": {"load_average": 0.25},
    "machine": {"processor": "A fast one", "usable_cores": 2, "instructions": ["avx2"]},
}


def run(*cells: str, rounds: int = 5, peers: bool = False) -> dict[str, Any]:
    arms = {"channel_per_call": {"rounds": [0.1] * rounds}, "continuous": {"rounds": [0.02] * rounds}}
    if peers:
        arms["fastapi"] = {"rounds": [0.04] * rounds}
    return {"about": ABOUT, "loads": [], "cells": {cell: {"arms": arms} for cell in cells}}


def test_the_short_section_has_four_columns_and_the_full_one_all() -> None:
    saved = run("1 s, 1 caller", "3 s, 1 caller", "10 s, 1 caller", "1 s, 16 callers", "10 s, 16 callers")
    short, full = tables.short_section(saved, "run.json"), tables.full_section(saved, "run.json")
    assert "| 1. a channel per call, loop in the client, vendor graphs | 100 | 100 | 100 | 100 |" in short
    assert "| 6. continuous batching (asr_ensemble) | 20 (5.0x) | 20 (5.0x) | 20 (5.0x) | 20 (5.0x) |" in short
    assert full.count("20 (5.0x)") == 5
    assert "A fast one (avx2), 2 cores, 2026-01-02" in short
    assert "5 rounds: A fast one (avx2), 2 cores, 2026-01-02; commit 0123456 with changes; load 0.25 before" in full


def test_a_run_without_the_readmes_cells_is_named() -> None:
    with pytest.raises(ValueError, match=r"run\.json: none of the cells 1 s, 1 caller"):
        tables.short_section(run("2 s, 3 callers"), "run.json")


@pytest.mark.parametrize(
    ("texts", "verdict"), [({"No matter."}, "same"), ({"No matter,"}, "same words"), ({"No batter."}, "differs")]
)
def test_a_comma_is_told_from_a_word(texts: set[str], verdict: str) -> None:
    assert tables.agreement(texts, {"No matter."}) == verdict


def test_a_section_replaces_only_what_is_between_its_markers() -> None:
    text = "before\n<!-- results -->\nold\n<!-- /results -->\nafter\n"
    written = markdown.replaced(text, "new")
    assert written == "before\n<!-- results -->\nnew\n<!-- /results -->\nafter\n"
    assert markdown.replaced(written, "new") == written
    for broken in ("no markers", text + text, "<!-- /results --><!-- results -->"):
        with pytest.raises(ValueError, match="the file needs one"):
            markdown.replaced(broken, "new")


def test_the_documents_hold_the_results_of_the_saved_run() -> None:
    result = CliRunner().invoke(app, ["ladder", "readme", "--check"])
    assert (result.exit_code, result.output.count("is up to date")) == (0, 2)


def test_a_document_that_is_out_of_date_fails_the_check_and_is_written_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    page.write_text("<!-- results -->\n<!-- /results -->\n")
    other.write_text("<!-- all results -->\n<!-- /all results -->\n")
    monkeypatch.setattr(ladder, "DOCUMENTS", ((page, markdown.RESULTS), (other, markdown.ALL_RESULTS)))
    command = ["ladder", "readme"]
    assert CliRunner().invoke(app, [*command, "--check"]).exit_code == 1
    assert CliRunner().invoke(app, command).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--check"]).exit_code == 0
    assert "continuous batching" in page.read_text()


@pytest.mark.parametrize(("rounds", "entry"), [(2, "(too few rounds)"), (5, "(5.0x)"), (6, "(5.0x, 5.0-5.0)")])
def test_few_rounds_are_said_instead_of_a_factor_and_intervals_need_six(rounds: int, entry: str) -> None:
    saved = run("10 s, 16 callers", rounds=rounds)
    assert f"| 20 {entry} |" in tables.full_section(saved, "run.json")


def test_the_service_of_a_user_is_compared_with_the_server() -> None:
    full = tables.full_section(run("1 s, 1 caller", "10 s, 16 callers", peers=True), "run.json")
    assert "How many times faster `asr_ensemble` is than FastAPI: 1 s, 1 caller 2.00; 10 s, 16 callers 2.00." in full
