"""The command that compares this checkout with another commit, and fails where it is slower."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from asrloop import config
from asrloop.cli import one_line_errors
from asrloop_bench.compare import run, tree
from asrloop_bench.compare.cells import CALLERS, CELLS, chosen
from asrloop_bench.compare.verdict import CONFIDENCE, findings, parse_share
from asrloop_bench.figures.accuracy import normalised
from asrloop_bench.load.generators import LoadError
from asrloop_bench.method import machine_load, provenance, spread
from asrloop_bench.terminal import console, print_notes, progress_of

PROCESSES = 4


def compare(
    base: Annotated[str, typer.Argument(help="The commit to compare with: a hash, a branch or a tag.")],
    cells: Annotated[
        str, typer.Option(help=f"Only these, with commas, * for any: {', '.join(cell.name for cell in CELLS)}.")
    ] = "*",
    rounds: Annotated[int, typer.Option(help="Times that every cell is measured.", min=1)] = 10,
    minutes: Annotated[float, typer.Option(help="No round starts after so many minutes of measuring.")] = 15.0,
    fail_above: Annotated[str, typer.Option(help="Slowdown that fails, as a share.")] = "5%",
    processes: Annotated[int, typer.Option(help="Load generators a server.", min=1, max=CALLERS)] = PROCESSES,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write. Default: results/<time>-compare/compare.json.")
    ] = None,
) -> None:
    """Compare this checkout with another commit: both are served here and now, and asked in turns.

    Sets the other commit up in a worktree with an environment of its own, kept below .cache/compare. Fails, with exit code 1,
    where a time grew by more than the limit and the interval of the ratio leaves out 1.
    """
    with one_line_errors(tree.TreeError, LoadError):
        wanted = chosen(cells)
        limit = parse_share(fail_above)
        path = output or provenance.folder("compare") / "compare.json"
        about = provenance.describe(config.load(), fail_above=limit)
        new, notes = tree.here(), list[str]()
        console.print(f"Setting up {base} (the first time takes a minute or two) ...")
        old = tree.set_up(base)
        about |= {"base": old.name, "new": new.name, "load_before": machine_load.sample()}
        console.print(f"base {old.name}, new {new.name}: starting both servers ...")
        with run.started(old, new, wanted, processes) as comparison:

            def save() -> None:
                provenance.save(path, {"about": about, "loads": comparison.loads, "cells": comparison.cells})

            with progress_of((rounds + 1) * len(wanted), save, notes) as progress:
                comparison.measure(wanted, rounds, time.monotonic() + 60 * minutes, progress)
        print_notes(notes)
        failed = _report(comparison, about, limit)
        console.print(f"Written: {path}")
    if failed:
        raise typer.Exit(1)


def _report(comparison: run.Comparison, about: Mapping[str, Any], limit: float) -> int:
    """Print the findings; return the count of numbers that fail."""
    found = findings(comparison.cells, limit)
    heads = (f"base {about['base']}", f"new {about['new']}", f"new / base ({CONFIDENCE:.0%})")
    table = Table("load", "number", *heads, "")
    for finding in found:
        rate = finding.measure.is_rate
        base, new = (f"{1 / time:.1f} /s" if rate else f"{1000 * time:.1f} ms" for time in (finding.base, finding.new))
        verdict = f"[red]{finding.word}[/red]" if finding.fails else finding.word
        change = finding.change.inverse() if rate else finding.change
        table.add_row(finding.cell, finding.measure.name, base, new, str(change), verdict)
    console.print(table)
    for name, cell in comparison.cells.items():
        console.print(f"{name}: {_tails(cell)}; {_texts(cell)}", markup=False)
    console.print(f"{provenance.in_words(about)}; {machine_load.in_words(about['load_before'], comparison.loads)}.")
    failed = sum(finding.fails for finding in found)
    if failed:
        console.print(f"{failed} of {len(found)} numbers slower by more than {limit:.0%}.", style="red")
    elif any(finding.change.low is None for finding in found) or not found:
        console.print(f"Too few rounds to judge: an interval needs {spread.FEWEST_FOR_INTERVAL}.", style="yellow")
    else:
        console.print(f"No number is slower by more than {limit:.0%}.")
    return failed


def _tails(cell: Mapping[str, Any]) -> str:
    """Return p50 and p99 over all requests of each arm, with their count."""
    return ", ".join(
        f"{arm} p50 {1000 * spread.median(one['latencies']):.0f} p99 {1000 * spread.percentile(one['latencies'], 99):.0f} ms "
        f"of {len(one['latencies'])} requests"
        for arm, one in cell.items()
    )


def _texts(cell: Mapping[str, Any]) -> str:
    """Count the clips that got the same words from both arms; commas are left out of account."""
    base, new = ({name: set(map(normalised, texts)) for name, texts in cell[arm]["texts"].items()} for arm in run.ARMS)
    both = base.keys() & new.keys()
    return f"same words for {sum(base[name] == new[name] for name in both)} of {len(both)} clips"
