"""Compare ways to serve the same speech, guard against regressions, measure accuracy, and write the results into the README."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from asrloop_bench import (
    accuracy,
    clips,
    gate,
    ladder_plan,
    ladder_run,
    not_helpful,
    provenance,
    readme_section,
    target,
    vendor_files,
)
from asrloop_bench.engine_figures import EngineFigures
from asrloop_bench.figures import Figure
from asrloop_bench.ladder import RUNGS
from asrloop_bench.peers import PEERS
from asrloop_bench.peers.environment import PeerError
from asrloop_bench.server_figures import ServerFigures
from asrloop_client import AsrClient, AsrError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from tritonclient.utils import InferenceServerException

from asrloop import config
from asrloop.triton_runtime import TritonError
from asrloop.triton_server import stopped_by_signals
from asrloop.wheels import WheelError

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
BASELINE = ROOT / "benchmarks" / "baseline.json"
LADDER_SECONDS, LADDER_CALLERS = (1.0, 3.0, 10.0), (1, 4, 16)
QUICK_SECONDS, QUICK_CALLERS, QUICK_MINUTES = (1.0, 10.0), (1, 4), 2.0

app = typer.Typer(help=__doc__, no_args_is_help=True)
# Tables in a log are not squeezed to a terminal that is not there.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


@contextmanager
def clear_errors() -> Iterator[None]:
    """One line for what a user can mend, and SIGTERM like Ctrl-C."""
    try:
        with stopped_by_signals():
            yield
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(130) from None
    except (
        TritonError,
        WheelError,
        AsrError,
        PeerError,
        InferenceServerException,
        config.ConfigError,
        ValueError,
        OSError,
    ) as error:
        console.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from None


@app.command()
def run(
    quick: Annotated[
        bool, typer.Option(help="Two lengths, one and four callers, no peers: under three minutes.")
    ] = False,
    peers: Annotated[
        bool, typer.Option(help="Also the vendor's runtime and FastAPI. [default: unless --quick]")
    ] = True,
    arms: Annotated[str, typer.Option(help=f"Only these, with commas: {', '.join([*RUNGS, *PEERS])}.")] = "",
    audio: Annotated[
        Path | None, typer.Option(help="Directory with WAV or FLAC files. [default: the model's wheel]")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Time limit of the measuring. [default: config.yaml]")] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write. [default: results/<time>-ladder/ladder.json]")
    ] = None,
) -> None:
    """The ladder: every rung on the same clips against the same server, interleaved request by request."""
    with clear_errors():
        settings = config.load()
        chosen = arms.split(",") if arms else [*RUNGS, *(PEERS if peers and not quick else ())]
        unknown = set(chosen) - {*RUNGS, *PEERS}
        if unknown:
            raise ValueError(f"--arms: {', '.join(unknown)} unknown; choose from {', '.join([*RUNGS, *PEERS])}")
        lengths, callers = (QUICK_SECONDS, QUICK_CALLERS) if quick else (LADDER_SECONDS, LADDER_CALLERS)
        files = clips.speech_files(CACHE, audio)
        speech = [clips.cut(files, seconds, 1)[0] for seconds in lengths]
        limit = minutes or (QUICK_MINUTES if quick else settings.benchmark.max_minutes)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("starting", total=len(speech) * len(callers), left="")

            def progress(number: int, total: int, name: str, seconds: float) -> None:
                left = f"at most {seconds / 60:.1f} min left"
                bar.update(task, completed=number, total=total, description=name, left=left)

            cells, notes = ladder_plan.run(ROOT, settings, chosen, speech, callers, limit, progress)
            bar.update(task, completed=len(speech) * len(callers), description="done", left="")
        for table in ladder_run.tables(cells, ladder_run.numbered_rungs() | PEERS):
            console.print(table)
        for note in notes:
            console.print(f"note: {note}", style="yellow", markup=False)
        path = output or ROOT / "results" / time.strftime("%Y%m%d-%H%M%S-ladder") / "ladder.json"
        save(path, {"about": provenance.describe(ROOT, settings, quick=quick, notes=notes), "cells": cells})


@app.command()
def compare(
    old: Annotated[Path, typer.Argument(help="Saved run, for example benchmarks/baseline.json.")],
    new: Annotated[Path, typer.Argument(help="Saved run of the code to judge.")],
    fail_above: Annotated[str, typer.Option(help="Slowdown that fails, as a share: 10%.")] = "10%",
) -> None:
    """The gate: fail when an arm of this project became slower relative to the vendor's graphs in the same run."""
    with clear_errors():
        share = gate.parse_share(fail_above)
        findings = gate.compare(load(old), load(new), share)
        table = Table("clip, callers", "arm", "relative time, new / old", f"{gate.CONFIDENCE:.0%} interval", "")
        for finding in findings:
            change = finding.change
            verdict = "[red]slower[/red]" if finding.fails else "ok"
            table.add_row(
                finding.cell, finding.arm, f"{change.estimate:.3f}", f"{change.low:.3f} - {change.high:.3f}", verdict
            )
        console.print(table)
        failed = sum(finding.fails for finding in findings)
        console.print(
            f"{failed} of {len(findings)} arms slower by more than {share:.0%}"
            if failed
            else f"No arm is slower by more than {share:.0%}."
        )
    if failed:
        raise typer.Exit(1)


@app.command()
def wer(
    manifest: Annotated[
        Path, typer.Option(help='JSON lines: {"audio": PATH, "text": WORDS}; paths are relative to the file.')
    ],
    running: Annotated[
        bool, typer.Option("--running", help="Ask the server on config.yaml's ports instead of starting one.")
    ] = False,
    concurrency: Annotated[int, typer.Option(help="Requests at a time.", min=1, max=1024)] = 16,
) -> None:
    """Word error rate through the server."""
    with clear_errors():
        settings = config.load()
        references = accuracy.read_manifest(manifest)
        server = nullcontext(target.running(settings)) if running else target.started(ROOT, settings)
        with server as measured, AsrClient(measured.grpc) as client:
            started = time.monotonic()
            errors = accuracy.transcribe_all(
                references, lambda paths: [one.text for one in client.transcribe_many(paths, concurrency=concurrency)]
            )
            took = time.monotonic() - started
        console.print(f"WER {errors.rate:.2%} over {len(references)} utterances, {errors.words} words")
        console.print(
            f"{errors.substitutions} substitutions, {errors.deletions} deletions, {errors.insertions} insertions; {took:.1f} s"
        )
        console.print(f"Normalisation of both sides: {accuracy.NORMALISATION}.")


@app.command()
def readme(
    source: Annotated[Path, typer.Argument(help="Saved run of the ladder.")] = BASELINE,
    file: Annotated[Path, typer.Option(help="File with the markers.")] = ROOT / "README.md",
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is up to date.")] = False,
) -> None:
    """Write the results section of the README from a saved run."""
    with clear_errors():
        name = source.resolve().relative_to(ROOT) if source.resolve().is_relative_to(ROOT) else source.name
        before = file.read_text(encoding="utf-8")
        after = readme_section.replaced(before, readme_section.section(load(source), str(name)))
        if check and before != after:
            raise ValueError(
                f"{file.name}: the results are not those of {name}; run `python scripts/benchmark.py readme`"
            )
        if not check:
            file.write_text(after, encoding="utf-8")
        console.print(f"{file.name} {'is up to date' if before == after else 'written'}.")


@app.command()
def engine(
    quick: Annotated[
        bool, typer.Option(help="Shorter comparisons and 200 requests for the memory: about two minutes.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write. [default: results/<time>-engine/engine.json]")
    ] = None,
) -> None:
    """The engine's figures beside what is aimed at."""
    with clear_errors():
        settings = config.load()
        files = clips.speech_files(CACHE, None)
        speech = {seconds: clips.cut(files, seconds, 1)[0].samples for seconds in (1.0, 3.0, 10.0)}
        seconds = 5.0 if quick else 25.0
        inside = EngineFigures(ROOT, settings, speech, seconds)
        behind = ServerFigures(ROOT, settings, speech, seconds)
        figures = []
        with console.status("") as status:

            def measure(name: str, make: Callable[[], list[Figure]]) -> None:
                status.update(name)
                figures.extend(make())

            measure("decoder step", inside.decoder_step)
            measure("whole clip", inside.whole_clip)
            measure("late joiner", inside.late_joiner)
            status.update("starting tritonserver")
            models = vendor_files.prepare(CACHE)
            with target.started(ROOT, settings, more_repositories=[models]) as server:
                measure("request against in-process", lambda: behind.server_hop(server))
                measure("16 callers", lambda: behind.many_callers(server))
            # A fresh server: nothing but the project's models in memory.
            with target.started(ROOT, settings) as server:
                measure("memory", lambda: behind.memory(server, 200 if quick else 2000))
        table = Table("what", "aim", "measured", "", "detail")
        for figure in figures:
            verdict = "yes" if figure.reached else "[yellow]no[/yellow]"
            table.add_row(figure.what, figure.aim, figure.measured, verdict, figure.detail)
        console.print(table)
        path = output or ROOT / "results" / time.strftime("%Y%m%d-%H%M%S-engine") / "engine.json"
        save(
            path,
            {
                "about": provenance.describe(ROOT, settings, quick=quick),
                "figures": [asdict(figure) for figure in figures],
            },
        )


@app.command("not-helpful")
def not_helpful_page(
    file: Annotated[Path, typer.Option(help="Page with the markers.")] = ROOT / "docs" / "what-did-not-help.md",
    quick: Annotated[bool, typer.Option(help="Shorter, and only printed.")] = False,
) -> None:
    """Measure again what did not help, and write the page's table."""
    with clear_errors():
        settings = config.load()
        models = vendor_files.prepare(CACHE)
        files = clips.speech_files(CACHE, None)
        speech = {seconds: clips.cut(files, seconds, 1)[0].samples for seconds in (1.0, 10.0)}
        seconds = 3.0 if quick else 15.0
        encoder, decoder = (vendor_files.graph(name, models) for name in vendor_files.SOURCES)
        with console.status("measuring"):
            with target.started(ROOT, settings) as server, AsrClient(server.grpc) as client:
                transports = not_helpful.shared_memory(server, speech, seconds)
                steps = len(client.transcribe(speech[10.0]).tokens) + 1
            request = transports[-1].plain_seconds
            trials = [
                not_helpful.small_tensor_pool(seconds, request, steps),
                not_helpful.pcm_conversion(speech[10.0], seconds, request),
                *transports,
                not_helpful.iobinding(encoder, decoder, speech[10.0], seconds),
            ]
        about = provenance.describe(ROOT, settings)
        said = f"Measured {about['time'][:10]} on {about['machine']['processor']}, {about['machine']['usable_cores']} cores."
        text = f"{not_helpful.markdown(trials)}\n\n{said}"
        console.print(text, markup=False)
        if not quick:
            file.write_text(readme_section.replaced(file.read_text(encoding="utf-8"), text), encoding="utf-8")
            console.print(f"Written: {file}")


def save(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = re.sub(
        r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), json.dumps(result, indent=1)
    )  # a list a line
    path.write_text(text + "\n", encoding="utf-8")
    console.print(f"Written: {path}")


def load(path: Path) -> dict[str, Any]:
    """Read a result. Raises ValueError for another file."""
    result = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(result, dict) or "cells" not in result:
        raise ValueError(f"{path}: no saved run; make one with `python scripts/benchmark.py run --output {path}`")
    return result


if __name__ == "__main__":
    app(prog_name=Path(sys.argv[0]).name)
