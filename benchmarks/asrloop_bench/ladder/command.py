"""The commands of the ladder: measure it, and write its results into the documents."""

import time
from pathlib import Path
from typing import Annotated

import typer

from asrloop import config
from asrloop.cli import one_line_errors
from asrloop.families.moonshine.decoding import INFO
from asrloop_bench.checkout import ROOT, SAVED_LADDER
from asrloop_bench.ladder import arms as ladder_arms
from asrloop_bench.ladder import tables
from asrloop_bench.ladder.peers import PeerError
from asrloop_bench.ladder.rungs import ARMS, PEERS, RUNGS
from asrloop_bench.load.generators import LoadError
from asrloop_bench.method import clips, machine_load, markdown, provenance
from asrloop_bench.terminal import console, print_notes, progress_of

SECONDS, CALLERS, ROUNDS = (1.0, 3.0, 10.0), (1, 16), 6
LONGEST = INFO.windows.longest
"""Seconds of a clip that every arm takes: a model that Triton calls by BLS takes a window."""

QUICK_SECONDS, QUICK_CALLERS, QUICK_ROUNDS = (1.0, 10.0), (1, 4), 2
DOCUMENTS = ((ROOT / "README.md", markdown.RESULTS), (ROOT / "docs" / "performance.md", markdown.ALL_RESULTS))


def run(
    quick: Annotated[
        bool, typer.Option(help="Two lengths, one and four callers, no peers, two rounds: some minutes.")
    ] = False,
    arms: Annotated[str, typer.Option(help=f"Only these, with commas: {', '.join(ARMS)}.")] = "",
    rounds: Annotated[
        int | None,
        typer.Option(help=f"Times that every cell is measured. Default: {ROUNDS}.", min=1, show_default=False),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help='JSON lines, {"audio": PATH, "text": WORDS}: also give the word errors of every arm, for clips up to 15 s.'
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(help="No round starts after so many minutes of measuring.")] = 15.0,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write. Default: results/<time>-ladder/ladder.json.")
    ] = None,
) -> None:
    """Measure the ladder: every way to serve the same clips, in turns in one run, each in the layout that suits it best.

    About 15 minutes on two cores; an interrupted run reports what it has.
    """
    with one_line_errors(PeerError, LoadError):
        settings = config.load()
        chosen = arms.split(",") if arms else [*RUNGS, *(() if quick else PEERS)]
        unknown = set(chosen) - ARMS.keys()
        if unknown:
            raise ValueError(f"--arms: {', '.join(unknown)} unknown; choose from {', '.join(ARMS)}")
        lengths, callers = (QUICK_SECONDS, QUICK_CALLERS) if quick else (SECONDS, CALLERS)
        files = clips.speech_files()
        speech = [clips.cut(files, seconds, 1)[0] for seconds in lengths]
        given = {str(number): one for number, one in enumerate(clips.references(manifest) if manifest else ())}
        read = (clips.Clip(name, one.samples) for name, one in given.items())
        spoken = [clip for clip in read if clip.seconds <= LONGEST]
        references = {clip.name: given[clip.name] for clip in spoken}
        times = rounds or (QUICK_ROUNDS if quick else ROUNDS)
        path = output or provenance.folder("ladder") / "ladder.json"
        about = provenance.describe(settings, quick=quick, load_before=machine_load.sample())
        cells: ladder_arms.Cells = {}
        loads: list[dict[str, float]] = []
        notes: list[str] = []
        errors: dict[str, float] = {}

        def save() -> None:
            provenance.save(
                path, {"about": {**about, "notes": notes}, "loads": loads, "cells": cells, "word_errors": errors}
            )

        console.print("Starting the servers ...")
        parts = (times + 1) * len(speech) * len(callers)
        with (
            ladder_arms.opened(settings, chosen, [*speech, *spoken], max(callers)) as opened,
            progress_of(parts, save, notes) as progress,
        ):
            until = time.monotonic() + 60 * minutes
            ladder_arms.measure(opened, speech, callers, times, until, progress, cells, loads)
            if references:
                found = ladder_arms.word_errors_of(opened, references)
                errors |= {name: round(one.rate, 5) for name, one in found.items()}
                save()
        for table in tables.for_terminal(cells):
            console.print(table)
        for name, rate in errors.items():
            console.print(f"{tables.NAMES[name]}: {rate:.2%} word errors over {len(references)} clips")
        print_notes(notes)
        console.print(f"{provenance.in_words(about)}; {machine_load.in_words(about['load_before'], loads)}.")
        console.print(f"Written: {path}")


def readme(
    source: Annotated[
        Path, typer.Argument(help="Saved run of the ladder. Default: benchmarks/saved/ladder.json.", show_default=False)
    ] = SAVED_LADDER,
    check: Annotated[bool, typer.Option("--check", help="Only check that it is up to date.")] = False,
) -> None:
    """Write the results of a saved run into the README and, all of them, into docs/performance.md."""
    with one_line_errors():
        name = str(source.resolve().relative_to(ROOT) if source.resolve().is_relative_to(ROOT) else source.name)
        saved = provenance.load(source)
        written = (tables.short_section(saved, name), tables.full_section(saved, name))
        for (document, section), text in zip(DOCUMENTS, written, strict=True):
            before = document.read_text(encoding="utf-8")
            after = markdown.replaced(before, text, section)
            if check and before != after:
                raise ValueError(
                    f"{document.name}: the results are not those of {name}; run `python scripts/benchmark.py readme`"
                )
            if not check:
                document.write_text(after, encoding="utf-8")
            console.print(f"{document.name} {'is up to date' if before == after else 'written'}.")
