"""Sweep a server with NVIDIA's perf_analyzer over clip lengths, callers, arrival rates and transports; write a report."""

import csv
import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from asrloop_bench import clips as speech
from asrloop_bench import load_input, load_points, perf_analyzer, provenance, sweep_page, target
from asrloop_bench.sweep_run import Sweep
from asrloop_client import AsrError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from asrloop import config
from asrloop.triton_runtime import TritonError
from asrloop.triton_server import stopped_by_signals
from asrloop.wheels import WheelError

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
QUICK_MINUTES = 2.0
QUICK_POINT_SECONDS = 4.0


def main(
    quick: Annotated[bool, typer.Option(help="Fewer and shorter points: under three minutes.")] = False,
    audio: Annotated[
        Path | None,
        typer.Option(help="Directory with WAV or FLAC files to cut clips from. [default: the model's wheel]"),
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Measure the server on config.yaml's ports instead of starting one.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Directory to write. [default: results/<time>]")] = None,
) -> None:
    """Measure latency and throughput under load and write a report."""
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
    try:
        settings = config.load()
        analyzer = perf_analyzer.find_or_fetch(CACHE)
        console.print(f"perf_analyzer: {analyzer.version}")
        clip_sets = make_clip_sets(settings, audio, quick)
        console.print("Starting tritonserver ..." if not running else "Using the running server.")
        server = nullcontext(target.running(settings)) if running else target.started(ROOT, settings)
        with stopped_by_signals(), server as measured:
            rows, notes = measure(settings, analyzer, measured, clip_sets, quick, console)
            about = provenance.describe(
                ROOT, settings, perf_analyzer=analyzer.version, server=measured.origin, quick=quick,
                clips={name: [clip.name for clip in clips] for name, clips in clip_sets.items()}, notes=notes,
            )  # fmt: skip
        directory = output or ROOT / "results" / time.strftime("%Y%m%d-%H%M%S-sweep")
        write(directory, rows, about)
        show(rows, notes, console)
        console.print(f"Written: {directory}/report.html, sweep.json, sweep.csv")
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(130) from None
    except (
        TritonError,
        WheelError,
        AsrError,
        perf_analyzer.PerfAnalyzerError,
        config.ConfigError,
        ValueError,
        OSError,
    ) as error:
        console.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from None


def make_clip_sets(settings: config.Settings, audio: Path | None, quick: bool) -> dict[str, list[speech.Clip]]:
    """The clips of every length by name, and the mixed set of all of them."""
    benchmark = settings.benchmark
    files = speech.speech_files(CACHE, audio)
    by_length = [speech.cut(files, seconds, benchmark.clips) for seconds in benchmark.clip_seconds]
    sets = {f"{seconds:g} s": clips for seconds, clips in zip(benchmark.clip_seconds, by_length, strict=True)}
    if quick:
        first, longest_but_one = next(iter(sets)), list(sets)[max(0, len(sets) - 2)]
        sets = {name: sets[name] for name in dict.fromkeys((first, longest_but_one))}
    return {**sets, load_points.MIXED: load_input.mixed(by_length, benchmark.mix)}


def measure(
    settings: config.Settings,
    analyzer: perf_analyzer.PerfAnalyzer,
    measured: target.Target,
    clip_sets: dict[str, list[speech.Clip]],
    quick: bool,
    console: Console,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Run the sweep with a progress bar."""
    benchmark = settings.benchmark
    until = time.monotonic() + 60 * (QUICK_MINUTES if quick else benchmark.max_minutes)
    seconds = min(QUICK_POINT_SECONDS, benchmark.point_seconds) if quick else benchmark.point_seconds
    make_plan = load_points.quick_plan if quick else load_points.plan
    points = make_plan(list(clip_sets), benchmark.concurrencies, benchmark.rate_shares)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("texts and warm-up", total=len(points))
        sweep = Sweep(analyzer, measured, clip_sets, seconds)
        sweep.prepare(lambda name: bar.update(task, description=f"texts and warm-up: {name}"))
        bar.reset(task)
        rows, notes = sweep.measure(
            points, until, lambda number, point: bar.update(task, completed=number, description=point.name)
        )
        bar.update(task, completed=len(points), description="done")
    return rows, notes


def write(directory: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Write sweep.json, sweep.csv and report.html."""
    directory.mkdir(parents=True, exist_ok=True)
    result = {"about": about, "points": rows}
    (directory / "sweep.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (directory / "sweep.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    (directory / "report.html").write_text(sweep_page.page(result), encoding="utf-8")


def show(rows: list[dict[str, Any]], notes: list[str], console: Console) -> None:
    """Print the points."""
    table = Table("clips", "protocol", "load", "requests/s", "audio s/s", "p50 ms", "p99 ms", "rows/step", "text")
    for row in rows:
        table.add_row(
            row["clips"], row["protocol"],
            f"{row['callers']} callers" if row["rate"] is None else f"{row['rate']:.1f}/s Poisson",
            f"{row['throughput']:.2f}", f"{row['audio_seconds_per_second']:.0f}",
            f"{row['p50_ms']:.0f}", f"{row['p99_ms']:.0f}", f"{row.get('mean_rows_per_step', 0):.1f}", row["text"],
        )  # fmt: skip
    console.print(table)
    for note in notes:
        console.print(f"note: {note}", style="yellow", markup=False)


if __name__ == "__main__":
    typer.run(main)
