"""The command of the sweep: run it with a bar, show the points, write sweep.json and report.html."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from asrloop_client import AsrError
from rich.progress import TimeRemainingColumn
from rich.table import Table

from asrloop import config, paths
from asrloop.cli import one_line_errors
from asrloop_bench.method import clips as speech
from asrloop_bench.method import machine_load, provenance, target
from asrloop_bench.sweep import perf_analyzer, points, report
from asrloop_bench.sweep.run import Row, Sweep
from asrloop_bench.terminal import console, print_notes, progress_of

QUICK_MINUTES, QUICK_POINT_SECONDS = 2.0, 4.0


def sweep(
    quick: Annotated[bool, typer.Option(help="Fewer and shorter points: under three minutes.")] = False,
    audio: Annotated[
        Path | None,
        typer.Option(help="Directory with WAV or FLAC files to cut clips from. Default: the model's wheel."),
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Measure the server on config.yaml's ports instead of starting one.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Directory to write. Default: results/<time>.")] = None,
) -> None:
    """Measure latency and throughput under load with NVIDIA's perf_analyzer and write a report."""
    with one_line_errors(AsrError, perf_analyzer.PerfAnalyzerError):
        settings = config.load()
        analyzer = perf_analyzer.fetched(paths.cache())
        console.print(f"perf_analyzer: {analyzer.version}")
        clip_sets = _clip_sets(settings.benchmark, audio, quick)
        console.print("Starting tritonserver ..." if not running else "Using the running server.")
        about = provenance.describe(
            settings, perf_analyzer=analyzer.version, quick=quick, load_before=machine_load.sample(),
            clips={name: [clip.name for clip in clips] for name, clips in clip_sets.items()},
        )  # fmt: skip
        directory = output or provenance.folder("sweep")
        rows: list[Row] = []
        notes: list[str] = []
        began = machine_load.now()

        def save() -> None:
            if not rows:
                return
            during = machine_load.between(began, machine_load.now())
            load = machine_load.in_words(about["load_before"], [during])
            result = {"about": {**about, "load": load, "notes": notes}, "points": rows}
            provenance.save(directory / "sweep.json", result)
            (directory / "report.html").write_text(report.page(result), encoding="utf-8")

        with nullcontext(target.running(settings)) if running else target.started(settings) as measured:
            about["server"] = measured.origin
            minutes = QUICK_MINUTES if quick else settings.benchmark.max_minutes
            seconds = settings.benchmark.point_seconds
            run = Sweep(analyzer, measured, clip_sets, min(QUICK_POINT_SECONDS, seconds) if quick else seconds)
            make_plan = points.quick_plan if quick else points.plan
            plan = make_plan(list(clip_sets), settings.benchmark.concurrencies, settings.benchmark.rate_shares)
            parts = len(clip_sets) + len(plan)
            with progress_of(parts, save, notes, TimeRemainingColumn()) as progress:
                run.prepare(progress)
                run.measure(plan, time.monotonic() + 60 * minutes, progress, rows, notes)
        _show(rows)
        print_notes(notes)
        console.print(f"Written: {directory}/report.html, sweep.json")


def _clip_sets(benchmark: config.BenchmarkSettings, audio: Path | None, quick: bool) -> dict[str, list[speech.Clip]]:
    files = speech.speech_files(audio)
    by_length = [speech.cut(files, seconds, benchmark.clips) for seconds in benchmark.clip_seconds]
    sets = {f"{seconds:g} s": clips for seconds, clips in zip(benchmark.clip_seconds, by_length, strict=True)}
    if quick:
        first, longest_but_one = next(iter(sets)), list(sets)[max(0, len(sets) - 2)]
        sets = {name: sets[name] for name in dict.fromkeys((first, longest_but_one))}
    return {**sets, points.MIXED: speech.mixed(by_length, benchmark.mix)}


def _show(rows: Sequence[Row]) -> None:
    table = Table("clips", "protocol", "load", "requests/s", "audio s/s", "p50 ms", "p99 ms", "text")
    for row in rows:
        load = f"{row['callers']} at a time" if row["rate"] is None else f"{row['rate']:.1f}/s Poisson"
        numbers = [f"{row[name]:.1f}" for name in ("throughput", "audio_seconds_per_second", "p50_ms")]
        tail = f"{row['p99_ms']:.0f}" if report.is_founded(row, "p99") else "-"
        table.add_row(row["clips"], row["protocol"], load, *numbers, tail, row["text"])
    console.print(table)
