"""The commands of the ladder: measure it, write its results into the documents."""

from pathlib import Path
from typing import Annotated

import typer
from asrloop_client import AsrError
from rich.progress import TextColumn
from tritonclient.utils import InferenceServerException

from asrloop import config
from asrloop.cli import one_line_errors
from asrloop_bench.checkout import ROOT, SAVED_LADDER
from asrloop_bench.ladder import plan, tables
from asrloop_bench.ladder.peers import PEERS
from asrloop_bench.ladder.peers.environment import PeerError
from asrloop_bench.ladder.rungs import RUNGS
from asrloop_bench.method import clips, machine_load, markers, provenance, results
from asrloop_bench.terminal import console, print_notes, progress_bar

SECONDS, CALLERS = (1.0, 3.0, 10.0), (1, 4, 16)
# With the start of the servers and a round that overruns, ten minutes on two cores.
MINUTES = 7.5
QUICK_SECONDS, QUICK_CALLERS, QUICK_MINUTES = (1.0, 10.0), (1, 4), 2.0
ARMS = (*RUNGS, *PEERS)
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "performance.md")


def run(
    quick: Annotated[
        bool, typer.Option(help="Two lengths, one and four callers, no peers: under three minutes.")
    ] = False,
    peers: Annotated[bool, typer.Option(help="Also the vendor's runtime and FastAPI. Default: unless --quick.")] = True,
    arms: Annotated[str, typer.Option(help=f"Only these, with commas: {', '.join(ARMS)}.")] = "",
    audio: Annotated[
        Path | None, typer.Option(help="Directory with WAV or FLAC files. Default: the model's wheel.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time limit of the measuring. Default: 7.5, with --quick 2.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write. Default: results/<time>-ladder/ladder.json.")
    ] = None,
) -> None:
    """The ladder: every rung on the same clips against the same server, interleaved request by request."""
    with one_line_errors(AsrError, PeerError, InferenceServerException):
        settings = config.load()
        chosen = arms.split(",") if arms else [*RUNGS, *(PEERS if peers and not quick else ())]
        unknown = set(chosen) - set(ARMS)
        if unknown:
            raise ValueError(f"--arms: {', '.join(unknown)} unknown; choose from {', '.join(ARMS)}")
        lengths, callers = (QUICK_SECONDS, QUICK_CALLERS) if quick else (SECONDS, CALLERS)
        files = clips.speech_files(audio)
        speech = [clips.cut(files, seconds, 1)[0] for seconds in lengths]
        limit = minutes or (QUICK_MINUTES if quick else MINUTES)
        path = output or results.folder("ladder") / "ladder.json"
        about = provenance.describe(settings, quick=quick, load_before=machine_load.sample())
        began = machine_load.now()
        cells: plan.Cells = {}
        notes: list[str] = []

        def save() -> None:
            loads = [machine_load.between(began, machine_load.now())]
            results.save(path, {"about": {**about, "notes": notes}, "loads": loads, "cells": cells})

        try:
            with progress_bar(TextColumn("{task.fields[left]}")) as bar:
                task = bar.add_task("starting", total=len(speech) * len(callers), left="")

                def progress(number: int, total: int, name: str, seconds: float) -> None:
                    left = f"at most {seconds / 60:.1f} min left"
                    bar.update(task, completed=number, total=total, description=name, left=left)
                    save()

                notes += plan.run(settings, chosen, speech, callers, limit, progress, cells)
                bar.update(task, completed=len(speech) * len(callers), description="done", left="")
        except KeyboardInterrupt:
            notes.append("interrupted: the cells that were not finished are missing")
        save()
        for table in tables.for_terminal(cells):
            console.print(table)
        print_notes(notes)
        console.print(f"Written: {path}")


def readme(
    source: Annotated[
        Path, typer.Argument(help="Saved run of the ladder. Default: benchmarks/saved/ladder.json.", show_default=False)
    ] = SAVED_LADDER,
    file: Annotated[
        Path | None,
        typer.Option(help="The one file to write. Default: README.md and docs/performance.md.", show_default=False),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is up to date.")] = False,
) -> None:
    """Write the results of a saved run into the README and, all of them, into docs/performance.md."""
    with one_line_errors():
        name = str(source.resolve().relative_to(ROOT) if source.resolve().is_relative_to(ROOT) else source.name)
        saved = results.load(source)
        for document in DOCUMENTS if file is None else (file,):
            before = document.read_text(encoding="utf-8")
            if markers.has(before, markers.ALL_RESULTS):
                after = markers.replaced(before, tables.full_section(saved, name), markers.ALL_RESULTS)
            else:
                after = markers.replaced(before, tables.short_section(saved, name))
            if check and before != after:
                raise ValueError(
                    f"{document.name}: the results are not those of {name}; run `python scripts/benchmark.py readme`"
                )
            if not check:
                document.write_text(after, encoding="utf-8")
            console.print(f"{document.name} {'is up to date' if before == after else 'written'}.")
