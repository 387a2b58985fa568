"""The commands of `asr-client`. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import glob
import inspect
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np

try:
    import typer
    from rich.console import Console
    from rich.live import Live
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError:
    sys.exit("asr-client needs typer and rich: pip install 'asrloop-client[cli]'")

from asrloop_client.client import AsrClient
from asrloop_client.errors import AsrError, InvalidConfig, ServerGone
from asrloop_client.settings import (
    DEFAULT_SERVER,
    SERVERS_VARIABLE,
    TOKEN_HEADER,
    TOKEN_VARIABLE,
    PoolConfig,
    TlsConfig,
)
from asrloop_client.sources import played, recorded
from asrloop_client.transcript import Transcript

FAILED, UNREACHABLE = 1, 3

app = typer.Typer(
    name="asr-client",
    help="Transcribe audio files and live audio with asrloop servers, and look at the servers.",
    epilog="Exit codes: 0 all went well, 1 a file failed or a model is not ready, 2 wrong usage, 3 no server reachable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_console = Console(stderr=True, highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Connect = Callable[..., AsrClient]

SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".mp3"}


class LiveForm(enum.StrEnum):
    """What is printed of live audio: the text of each segment, or every event."""

    TXT = "txt"
    JSON = "json"


class Form(enum.StrEnum):
    """What is written of a transcript."""

    TXT = "txt"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"


def _connect(
    servers: Annotated[
        list[str],
        typer.Option("--server", "-s", help="gRPC address host:port; repeat it for several.", envvar=SERVERS_VARIABLE),
    ] = [DEFAULT_SERVER],  # noqa: B006 - nothing changes it
    token: Annotated[str | None, typer.Option(help="Token the server asks for.", envvar=TOKEN_VARIABLE)] = None,
    token_header: Annotated[str, typer.Option(help="Header that carries the token.")] = TOKEN_HEADER,
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS; implied by the three options below.")] = False,
    root_certificates: Annotated[
        Path | None, typer.Option(help="PEM file with the certificates that sign the server's.")
    ] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM file with the client's key, for mutual TLS.")] = None,
    certificate_chain: Annotated[
        Path | None, typer.Option(help="PEM file with the client's certificate, for mutual TLS.")
    ] = None,
    **settings: Any,
) -> AsrClient:
    """A client; the parameters are the connection options of every command, `settings` are a command's own."""
    try:
        files = TlsConfig(
            root_certificates=root_certificates, private_key=private_key, certificate_chain=certificate_chain
        )
        wanted = files if tls or files != TlsConfig() else None
        return AsrClient(servers, tls=wanted, token=token, token_header=token_header, **settings)
    except AsrError as error:
        raise _exit(error) from None


def _with_connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the options of `_connect` in place of its parameter `connect`, which gets them filled in."""
    own = inspect.signature(command, eval_str=True)
    shared = inspect.signature(_connect, eval_str=True).parameters.values()
    options = [each for each in shared if each.kind is not each.VAR_KEYWORD]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        connection = {each.name: given.pop(each.name) for each in options}
        command(connect=functools.partial(_connect, **connection), **given)

    parameters = [
        parameter for each in own.parameters.values() for parameter in (options if each.name == "connect" else [each])
    ]
    # Typer reads the command line from it.
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


@app.command()
@_with_connection_options
def transcribe(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Audio files, directories, patterns such as 'a/*.wav', or - for standard input.", show_default=False
        ),
    ],
    connect: Connect,
    as_json: AsJson = False,
    form: Annotated[Form, typer.Option("--format", help="What to write.")] = Form.TXT,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Write a file for each below this, by its path, and skip what is there.", file_okay=False),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Files at the same time.", min=1)] = 8,
    timeout: Annotated[float, typer.Option(help="Deadline of each file, in seconds.", min=0.001)] = 600.0,
    pooling: Annotated[bool, typer.Option(help="Keep channels; --no-pooling opens one per file.")] = True,
) -> None:
    """Print or write the text of each file; errors and a summary go to standard error."""
    form = Form.JSON if as_json else form
    files = _expand(paths)
    if form in (Form.SRT, Form.VTT) and len(files) > 1 and output_dir is None:
        raise typer.BadParameter(f"{len(files)} files as {form.value} in one output: give --output-dir")
    targets = _targets(files, output_dir, form) if output_dir is not None else {}
    wanted = [file for file in files if file not in targets or not targets[file].exists()]
    channels = min(concurrency, len(wanted)) or 1
    pool = PoolConfig(min_channels=min(channels, PoolConfig.min_channels), max_channels=channels)
    failures: list[AsrError] = []
    audio_seconds, started = 0.0, time.monotonic()
    if wanted:
        bar = Progress(console=_console, transient=True, disable=not _console.is_terminal)
        task = bar.add_task("transcribing", total=len(wanted))
        shares: dict[str, float] = {}
        """How much of each file is done."""

        def heard(name: str, share: float) -> None:
            shares[name] = share
            bar.update(task, completed=sum(shares.values()))

        with bar, connect(timeout=timeout, pooling=pooling, pool=pool) as client:
            options: dict[str, Any] = {
                "concurrency": concurrency,
                "on_progress": lambda far: heard(far.request_id, far.done / far.known),
            }
            results: Iterable[tuple[Any, Any]]
            if output_dir is None:
                results = zip(wanted, client.transcribe_many(wanted, return_errors=True, **options), strict=True)
            else:  # each as soon as it is done: what is written stays when this process is killed
                results = (
                    (each.audio, each.error or each.transcript) for each in client.as_completed(wanted, **options)
                )
            for file, result in results:
                if isinstance(result, Transcript):
                    heard(result.request_id, 1)
                    audio_seconds += result.duration or 0.0
                    _write(file, result, form, targets.get(file), alone=len(files) == 1)
                else:
                    heard(file, 1)
                    failures.append(result)
                    if form is Form.JSON and output_dir is None:
                        typer.echo(json.dumps({"file": file, "error": type(result).__name__, "message": str(result)}))
                    _console.print(f"error: {file}: {result}", style="red", markup=False)
    took = time.monotonic() - started
    factor = f", real-time factor {took / audio_seconds:.3f}" if audio_seconds else ""
    _console.print(
        f"{len(wanted) - len(failures)} transcribed, {len(failures)} failed, {len(files) - len(wanted)} skipped; "
        f"{audio_seconds:.1f} s of audio in {took:.1f} s{factor}",
        style="dim",
    )
    if failures:
        raise typer.Exit(UNREACHABLE if all(isinstance(each, ServerGone) for each in failures) else FAILED)


@app.command()
@_with_connection_options
def stream(
    audio: Annotated[
        str,
        typer.Argument(
            help="An audio file, which is played, or - for raw 16-bit mono PCM on standard input.", show_default=False
        ),
    ],
    connect: Connect,
    form: Annotated[LiveForm, typer.Option("--format", help="What to print.")] = LiveForm.TXT,
    rate: Annotated[int, typer.Option(help="Samples a second of standard input.", min=1)] = 16000,
    speed: Annotated[float, typer.Option(help="How many times faster than its sound a file is sent.", min=0.01)] = 1.0,
    timeout: Annotated[
        float, typer.Option(help="To find a server, and to wait for the last words, in seconds.", min=0.001)
    ] = 60.0,
    resume: Annotated[bool, typer.Option(help="Go on with another stream when the server is lost.")] = True,
) -> None:
    """Print the words of live audio while they are spoken, a line for each segment.

    On a terminal the open segment stands below, dim where it may still change. Ctrl-C ends the audio and waits for the last words.

    arecord -f S16_LE -r 16000 -t raw | asr-client stream -
    """
    stop, out = threading.Event(), Console(highlight=False, soft_wrap=True)
    view = Live(console=out, transient=True, auto_refresh=False) if out.is_terminal and form is LiveForm.TXT else None

    def end_audio(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        source: Any
        rate, source = (rate, recorded(rate, stop)) if audio == "-" else played(audio, speed, stop)
        with connect(timeout=timeout) as client, view or contextlib.nullcontext():
            before = signal.signal(signal.SIGINT, end_audio)
            try:
                with client.stream(source, sample_rate=rate, resume=resume) as events:
                    for event in events:
                        if form is LiveForm.JSON:
                            typer.echo(json.dumps(dataclasses.asdict(event), ensure_ascii=False))
                        elif event.final and event.stable:
                            out.print(event.stable, markup=False)
                        if view is not None:
                            gap = " " if event.stable and event.tail else ""
                            stable = "" if event.final else event.stable
                            view.update(Text.assemble(stable, gap, (event.tail, "dim")), refresh=True)
            finally:
                signal.signal(signal.SIGINT, before)
    except AsrError as error:
        raise _exit(error) from None


@app.command()
@_with_connection_options
def health(
    connect: Connect,
    as_json: AsJson = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also ask each server for a transcript of a second of voice.")
    ] = False,
) -> None:
    """Ask each server whether it and its models are ready."""
    with connect(prewarm=False) as client:
        found = client.health(_voice() if deep else None)
    table = Table("server", "live", "model", "ready", "transcript")
    for each in found:
        if as_json:
            typer.echo(json.dumps({**dataclasses.asdict(each), "ready": each.ready}))
        for model, ready in each.models.items():
            took = "" if each.seconds is None else f"{1000 * each.seconds:.0f} ms"
            table.add_row(each.address, _yes(each.live), model, _yes(ready), took)
        if each.error is not None:
            _console.print(f"error: {each.error}", style="red", markup=False)
    if not as_json:
        Console(highlight=False).print(table)
    if not any(each.live for each in found):
        raise typer.Exit(UNREACHABLE)
    if not all(each.ready for each in found):
        raise typer.Exit(FAILED)


def _exit(error: AsrError) -> typer.Exit | typer.BadParameter:
    if isinstance(error, InvalidConfig):
        return typer.BadParameter(str(error))
    _console.print(f"error: {error}", style="red", markup=False)
    return typer.Exit(UNREACHABLE if isinstance(error, ServerGone) else FAILED)


def _expand(paths: list[str]) -> list[str]:
    """Every file that is meant, once, in order: what a directory holds of known kinds, what a pattern matches."""
    found: list[str] = []
    for path in paths:
        if Path(path).is_dir():
            inside = (each for each in Path(path).rglob("*") if each.suffix.lower() in SUFFIXES)
            matches = sorted(str(each) for each in inside if each.is_file())
        elif path != "-" and not Path(path).exists() and glob.has_magic(path):
            matches = sorted(filter(os.path.isfile, glob.iglob(path, recursive=True)))  # noqa: PTH207 - Path.glob takes no absolute one
        else:
            matches = [path]
        if not matches:
            raise typer.BadParameter(f"{path}: no audio file there; known endings: {', '.join(sorted(SUFFIXES))}")
        found += matches
    return list(dict.fromkeys(found))


def _targets(files: list[str], directory: Path, form: Form) -> dict[str, Path]:
    """The file to write for each, the same in every run: its path below the current directory, or else the whole one.

    The new ending replaces that of a known kind, and follows it where another kind of the same name lies beside it.
    """
    targets: dict[str, Path] = {}
    for file in files:
        path = Path(os.path.abspath("stdin" if file == "-" else file))  # noqa: PTH100 - resolve() follows links
        twins = (path.with_suffix(each) for suffix in SUFFIXES for each in (suffix, suffix.upper()))
        whole = path.suffix.lower() not in SUFFIXES or any(twin != path and twin.exists() for twin in twins)
        below = path.relative_to(Path.cwd() if path.is_relative_to(Path.cwd()) else path.anchor)
        targets[file] = directory / below.with_name(f"{path.name if whole else path.stem}.{form.value}")
    return targets


def _write(file: str, result: Transcript, form: Form, target: Path | None, alone: bool) -> None:
    forms: dict[Form, Callable[[], str]] = {
        Form.SRT: result.to_srt,
        Form.VTT: result.to_vtt,
        Form.TXT: lambda: f"{result.text}\n",
    }
    if form is Form.JSON:
        text = json.dumps({"file": file, **dataclasses.asdict(result)}, ensure_ascii=False) + "\n"
    else:
        text = forms[form]()
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: a file that is there counts as done.
        partial = target.with_name(f"{target.name}.part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    else:
        typer.echo(text if form is not Form.TXT or alone else f"{file}: {text}", nl=False)


def _voice() -> Any:
    """One second at 16 kHz of a voice that says "ee" four times: the server takes it for speech, so that every model works."""
    time, pitch = np.arange(16_000) / 16_000, 160.0
    sound = np.zeros(16_000)
    for frequency in np.arange(pitch, 4000.0, pitch):
        formants = ((300.0, 60.0), (2200.0, 120.0), (3000.0, 150.0))
        loudness = sum(1 / (1 + ((frequency - middle) / width) ** 2) for middle, width in formants)
        sound += loudness / frequency * np.sin(2 * np.pi * frequency * time)
    sound *= np.sin(4 * np.pi * time) ** 2
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def _yes(value: bool) -> str:
    return "[green]yes[/]" if value else "[red]no[/]"


if __name__ == "__main__":
    app()
