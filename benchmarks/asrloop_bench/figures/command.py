"""The commands of the single figures: engine, word error rate, what did not help, transducers, the client's pool."""

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from asrloop_client import AsrClient, AsrError
from rich.table import Table

from asrloop import audio, config
from asrloop.audio import Samples
from asrloop.cli import one_line_errors
from asrloop.families.registry import family_in, open_family, window_lengths
from asrloop_bench.checkout import IDLE_MODELS, PREPARED, ROOT
from asrloop_bench.figures import accuracy, client_pool, not_helpful
from asrloop_bench.figures import confidence as calibration
from asrloop_bench.figures import drafts as draft_cost
from asrloop_bench.figures import gateway as gateway_cost
from asrloop_bench.figures.engine import EngineFigures
from asrloop_bench.figures.figure import Figure, markdown
from asrloop_bench.figures.long_recordings import RecordingFigures
from asrloop_bench.figures.server import ServerFigures
from asrloop_bench.method import clips, markers, provenance, results, spread, target
from asrloop_bench.terminal import console
from asrloop_bench.vendor import files

Running = Annotated[
    bool, typer.Option("--running", help="Ask the server on config.yaml's ports instead of starting one.")
]


def engine(
    quick: Annotated[
        bool, typer.Option(help="Shorter comparisons and 200 requests for the memory: about two minutes.")
    ] = False,
    write: Annotated[bool, typer.Option("--write", help="Also write the table of docs/engine.md.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write. Default: results/<time>-engine/engine.json.")
    ] = None,
) -> None:
    """The engine's figures beside what is aimed at."""
    with one_line_errors(AsrError):
        settings = config.load()
        speech = _speech(1.0, 3.0, 10.0)
        seconds = 5.0 if quick else 25.0
        about = provenance.describe(settings, quick=quick)
        inside = EngineFigures(settings, speech, seconds)
        behind = ServerFigures(settings, speech, seconds)
        figures: list[Figure] = []
        with console.status("") as status:

            def measure(name: str, make: Callable[[], list[Figure]]) -> None:
                status.update(name)
                figures.extend(make())

            measure("decoder step", inside.decoder_step)
            measure("whole clip", inside.whole_clip)
            measure("late joiner", inside.late_joiner)
            status.update("starting tritonserver")
            with target.started(settings, more_repositories=[files.prepare()]) as server:
                measure("request against in-process", lambda: behind.server_hop(server))
                measure("16 callers", lambda: behind.many_callers(server))
            # A fresh server: nothing but the project's models in memory.
            with target.started(settings) as server:
                measure("memory", lambda: behind.memory(server, 200 if quick else 2000))
        table = Table("what", "aim", "measured", "", "detail")
        for figure in figures:
            verdict = "yes" if figure.reached else "[yellow]no[/yellow]"
            table.add_row(figure.what, figure.aim, figure.measured, verdict, figure.detail)
        console.print(table)
        path = output or results.folder("engine") / "engine.json"
        plain = [asdict(figure) for figure in figures]
        results.save(path, {"about": about, "figures": plain})
        console.print(f"Written: {path}")
        if write:
            page = ROOT / "docs" / "engine.md"
            text = f"{markdown(figures)}\n\nMeasured by `scripts/benchmark.py engine --write` on {provenance.in_words(about)}."
            markers.write(page, text)
            console.print(f"Written: {page.name}")


def wer(
    manifest: Annotated[
        Path, typer.Option(help='JSON lines: {"audio": PATH, "text": WORDS}; paths are relative to the file.')
    ],
    running: Running = False,
    concurrency: Annotated[int, typer.Option(help="Requests at a time.", min=1, max=1024)] = 16,
) -> None:
    """Word error rate through the server."""
    with one_line_errors(AsrError):
        references = accuracy.read_manifest(manifest)
        with _server(running) as server, AsrClient(server.grpc) as client:
            started = time.monotonic()
            paths = [one.audio for one in references]
            heard = [one.text for one in client.transcribe_many(paths, concurrency=concurrency)]
            took = time.monotonic() - started
        errors = accuracy.word_errors([one.text for one in references], heard)
        console.print(f"WER {errors.rate:.2%} over {len(references)} utterances, {errors.words} words")
        console.print(
            f"{errors.substitutions} substitutions, {errors.deletions} deletions, {errors.insertions} insertions; {took:.1f} s"
        )
        console.print(f"Normalisation of both sides: {accuracy.NORMALISATION}.")


def confidence(
    manifest: Annotated[
        Path, typer.Option(help='JSON lines: {"audio": PATH, "text": WORDS}; paths are relative to the file.')
    ],
    file: Annotated[
        Path, typer.Option(help="Page with the markers. Default: docs/confidence.md.", show_default=False)
    ] = ROOT / "docs" / "confidence.md",
) -> None:
    """Fit CONFIDENCE, check it on clips that the fit has not seen, and write the page's table."""
    with one_line_errors():
        settings = config.load()
        machine = provenance.in_words(provenance.describe(settings))
        with console.status("decoding"):
            heard = calibration.hear(accuracy.read_manifest(manifest), settings)
        written = calibration.section(heard, machine, manifest)
        markers.write(file, written)
        console.print(written, markup=False)


def drafts(
    manifest: Annotated[
        Path, typer.Option(help='JSON lines: {"audio": PATH, "text": WORDS}; paths are relative to the file.')
    ],
    write: Annotated[bool, typer.Option("--write", help="Also write the table of docs/engine.md.")] = False,
) -> None:
    """What drafts save where audio is decoded again and again as it grows, and that they change nothing."""
    with one_line_errors():
        settings = config.load()
        about = provenance.describe(settings)
        heard = [
            audio.from_file(one.audio.read_bytes(), settings.audio.max_seconds)
            for one in accuracy.read_manifest(manifest)
        ]
        one_thread = settings.engine.model_copy(update={"decoder_threads": 1, "encoder_threads": 1})
        family = open_family(PREPARED, settings.model_copy(update={"engine": one_thread}))
        longest = round(window_lengths(family_in(PREPARED) or "", settings).longest * audio.SAMPLE_RATE)
        heard = [samples[:longest] for samples in heard]
        with console.status("decoding"):
            table = draft_cost.markdown(draft_cost.measured(family, heard), len(heard))
        text = (
            f"{table}\n\nMeasured by `asrloop-bench drafts --manifest {manifest.name} --write` on "
            f"{provenance.in_words(about)}, commit {str(about['git_commit'])[:7]}."
        )
        console.print(text, markup=False)
        if write:
            markers.write(ROOT / "docs" / "engine.md", text, "drafts")


def recordings(
    manifest: Annotated[
        Path, typer.Option(help='JSON lines: {"audio": PATH, "text": WORDS}; paths are relative to the file.')
    ],
    rounds: Annotated[int, typer.Option(help="Rounds of what is timed.", min=1)] = 5,
    write: Annotated[bool, typer.Option("--write", help="Also write the table of docs/long-recordings.md.")] = False,
) -> None:
    """Long recordings, joined of the manifest's clips: words, segments, speed, fairness, memory."""
    with one_line_errors(AsrError):
        settings = config.load()
        about = provenance.describe(settings)
        figures: list[Figure] = []
        with console.status("") as status, target.started(settings) as server:
            measured = RecordingFigures(settings, server, accuracy.read_manifest(manifest), rounds)
            for name, make in (
                ("words", measured.words),
                ("speed", measured.speed),
                ("fairness", lambda: measured.fairness(_speech(1.0)[1.0])),
                ("memory", measured.memory),
            ):
                status.update(name)
                figures += make()
        text = (
            f"{markdown(figures)}\n\nMeasured by `asrloop-bench recordings --manifest {manifest.name} --write` on "
            f"{provenance.in_words(about)}, commit {str(about['git_commit'])[:7]}."
        )
        console.print(text, markup=False)
        if write:
            page = ROOT / "docs" / "long-recordings.md"
            markers.write(page, text)


def not_helpful_page(
    file: Annotated[
        Path, typer.Option(help="Page with the markers. Default: docs/what-did-not-help.md.", show_default=False)
    ] = ROOT / "docs" / "what-did-not-help.md",
    quick: Annotated[bool, typer.Option(help="Shorter, and only printed.")] = False,
) -> None:
    """Measure again what did not help, and write the page's table."""
    with one_line_errors(AsrError):
        settings = config.load()
        files.prepare()
        speech = _speech(1.0, 10.0)
        seconds = 3.0 if quick else 15.0
        about = provenance.describe(settings)
        with console.status("measuring"):
            with target.started(settings) as server, AsrClient(server.grpc) as client:
                heard = [client.transcribe(speech[10.0]) for _ in range(5)]
            steps = len(heard[-1].tokens) + 1
            request = spread.median([each.timings.total for each in heard])
            trials = [
                not_helpful.small_tensor_pool(seconds, request, steps),
                not_helpful.pcm_conversion(speech[10.0], seconds, request),
                not_helpful.iobinding(speech[10.0], seconds),
            ]
        text = f"{not_helpful.markdown(trials)}\n\nMeasured on {provenance.in_words(about)}."
        console.print(text, markup=False)
        if not quick:
            markers.write(file, text)
            console.print(f"Written: {file}")


def pool(
    seconds: Annotated[float, typer.Option(help="Time for each of the twelve rows.")] = 20.0,
    write: Annotated[bool, typer.Option("--write", help="Write the table into client/README.md.")] = False,
) -> None:
    """The client's pool against one shared channel and a channel per call, as a table in Markdown."""
    with one_line_errors(AsrError):
        with target.started(config.load(), more_repositories=[IDLE_MODELS]) as server:
            table = client_pool.table(server.grpc, _speech(*client_pool.SECONDS), seconds)
        about = provenance.describe(config.load())
        machine = provenance.in_words(about)
        text = f"{table}\n\nMeasured on {machine}, commit {str(about['git_commit'])[:7]}."
        console.print(text, markup=False)
        if write:
            file = ROOT / "client" / "README.md"
            markers.write(file, text)


def gateway(
    seconds: Annotated[float, typer.Option(help="Time for each row.")] = 20.0,
    write: Annotated[bool, typer.Option("--write", help="Write the table into docs/gateway.md.")] = False,
) -> None:
    """What the gateway adds to a file's way to its text, as a table in Markdown."""
    with one_line_errors(AsrError):
        with target.started(config.load()) as server:
            table = gateway_cost.table(server.grpc, _speech(*gateway_cost.SECONDS), seconds)
        about = provenance.describe(config.load())
        text = f"{table}\n\nMeasured on {provenance.in_words(about)}, commit {str(about['git_commit'])[:7]}."
        console.print(text, markup=False)
        if write:
            markers.write(ROOT / "docs" / "gateway.md", text)


def transducer(
    speech: Annotated[list[Path], typer.Argument(help="WAV, FLAC or OGG files of 16 kHz mono, or directories.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="NeMo directory. Default: random weights of Parakeet's size.")
    ] = None,
    rnnt: Annotated[bool, typer.Option("--rnnt", help="Random weights of an RNN-T instead of a TDT.")] = False,
    utterances: Annotated[int, typer.Option(help="Most utterances to decode.", min=1)] = 48,
    rounds: Annotated[int, typer.Option(help="Rounds to measure.", min=1)] = 5,
    threads: Annotated[int, typer.Option(help="Threads of ONNX Runtime in both arms.", min=1)] = 1,
    write: Annotated[bool, typer.Option("--write", help="Also write the part of docs/transducer.md.")] = False,
) -> None:
    """The decode part of a transducer against onnx-asr, on the same encoder outputs."""
    from asrloop_bench.figures import (
        transducer as figure,
    )  # needs onnx-asr and the training package, as setup-dev has them

    with one_line_errors(), tempfile.TemporaryDirectory() as scratch:
        paths = [
            path for given in speech for path in (sorted(given.rglob("*")) if given.is_dir() else [given])
            if path.suffix in (".wav", ".flac", ".ogg")
        ][:utterances]  # fmt: skip
        if not paths:
            raise ValueError(f"{', '.join(map(str, speech))}: no .wav, .flac or .ogg file; give some speech")
        part = "given model"
        about = provenance.describe(config.load())
        if source is None:
            part, source = "random RNN-T" if rnnt else "random TDT", Path(scratch)
            figure.write_random(source, rnnt)
        lines = figure.report(source, [clips.read(path) for path in paths], rounds, threads)
        for line in lines:
            console.print(line, markup=False)
        if write:
            block = "\n".join(f"    {line}" for line in lines)
            measured = f"{rounds} interleaved rounds on {provenance.in_words(about)}."
            markers.write(ROOT / "docs" / "transducer.md", f"\n{block}\n\n{measured}", part)


def _speech(*lengths: float) -> dict[float, Samples]:
    """A clip of each length in seconds, of the model's wheel."""
    recordings = clips.speech_files()
    return {seconds: clips.cut(recordings, seconds, 1)[0].samples for seconds in lengths}


def _server(running: bool) -> AbstractContextManager[target.Target]:
    settings = config.load()
    return nullcontext(target.running(settings)) if running else target.started(settings)
