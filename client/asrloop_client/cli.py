"""The commands of `asr-client`. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from asrloop_client.client import AsrClient
from asrloop_client.config import ClientConfig, PoolConfig, TlsConfig
from asrloop_client.errors import AsrError, CircuitOpen, InvalidConfig, ServerGone
from asrloop_client.transcript import Transcript

FAILED, UNREACHABLE = 1, 3

app = typer.Typer(
    name="asr-client",
    help="Transcribe audio files with asrloop servers, and look at the servers.",
    epilog="Exit codes: 0 all went well, 1 a file failed or a model is not ready, 2 wrong usage, 3 no server reachable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_console = Console(stderr=True, highlight=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Connect = Callable[..., AsrClient]

DEFAULT = ClientConfig()
DEFAULT_SERVERS = ["localhost:8001"]


def _connect(
    servers: Annotated[
        list[str],
        typer.Option(
            "--server", "-s", help="gRPC address host:port; repeat it for several.", envvar="ASR_CLIENT_SERVERS"
        ),
    ] = DEFAULT_SERVERS,
    token: Annotated[str | None, typer.Option(help="Token the server asks for.", envvar="ASR_CLIENT_TOKEN")] = None,
    token_header: Annotated[str, typer.Option(help="Header that carries the token.")] = DEFAULT.token_header,
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
    files: Annotated[list[Path], typer.Argument(help="Audio files of any format.", show_default=False)],
    connect: Connect,
    as_json: AsJson = False,
    concurrency: Annotated[int, typer.Option(help="Files at the same time.", min=1)] = 8,
    timeout: Annotated[float, typer.Option(help="Deadline of each file, in seconds.", min=0.001)] = DEFAULT.timeout,
    shared_memory: Annotated[
        bool, typer.Option("--shared-memory", help="Pass audio through shared memory to a server on this machine.")
    ] = False,
    pooling: Annotated[bool, typer.Option(help="Keep channels; --no-pooling opens one per file.")] = True,
) -> None:
    """Print the text of each file, in order; timings go to standard error."""
    channels = min(concurrency, len(files))
    pool = PoolConfig(min_channels=min(channels, DEFAULT.pool.min_channels), max_channels=channels)
    failures: list[AsrError | OSError] = []
    with connect(timeout=timeout, shared_memory=shared_memory, pooling=pooling, pool=pool) as client:
        results = client.transcribe_many(files, concurrency=concurrency, return_errors=True)
        for file, result in zip(files, _with_progress(results, len(files)), strict=True):
            if not isinstance(result, Transcript):
                failures.append(result)
            _print_result(file, result, as_json, alone=len(files) == 1)
    if failures:
        unreachable = len(failures) == len(files) and all(isinstance(e, ServerGone | CircuitOpen) for e in failures)
        raise typer.Exit(UNREACHABLE if unreachable else FAILED)


@app.command()
@_with_connection_options
def health(connect: Connect, as_json: AsJson = False) -> None:
    """Ask each server whether it and its models are ready."""
    with connect(prewarm=False) as client:
        found = client.health()
    table = Table("server", "live", "model", "ready")
    for each in found:
        if as_json:
            typer.echo(json.dumps({**dataclasses.asdict(each), "ready": each.ready}))
        for model, ready in each.models.items():
            table.add_row(each.address, _yes(each.live), model, _yes(ready))
        if each.error is not None:
            _console.print(f"error: {each.error}", style="red", markup=False)
    if not as_json:
        Console(highlight=False).print(table)
    if not any(each.live for each in found):
        raise typer.Exit(UNREACHABLE)
    if not all(each.ready for each in found):
        raise typer.Exit(FAILED)


@app.command()
@_with_connection_options
def stats(connect: Connect, as_json: AsJson = False) -> None:
    """Print each model's counters since its server started; times are means."""
    with connect() as client:
        try:
            found = client.model_statistics()
        except AsrError as error:
            raise _exit(error) from None
    table = Table("server", "model", "ok", "failed", "executions", "request ms", "queue ms", "compute ms")
    for each in found:
        if as_json:
            typer.echo(json.dumps(dataclasses.asdict(each)))
        counts = (str(count) for count in (each.successes, each.failures, each.executions))
        means = (f"{1000 * mean:.2f}" for mean in (each.mean_request, each.mean_queue, each.mean_compute))
        table.add_row(each.address, each.model, *counts, *means)
    if not as_json:
        Console(highlight=False).print(table)


def _exit(error: AsrError) -> typer.Exit | typer.BadParameter:
    if isinstance(error, InvalidConfig):
        return typer.BadParameter(str(error))
    _console.print(f"error: {error}", style="red", markup=False)
    return typer.Exit(UNREACHABLE if isinstance(error, ServerGone | CircuitOpen) else FAILED)


def _with_progress(results: Iterator[Any], total: int) -> Iterator[Any]:
    """`results`, with a progress bar on a terminal when there are several."""
    columns = (TextColumn("transcribing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=_console, transient=True, disable=total < 2 or not _console.is_terminal
    ) as progress:
        yield from progress.track(results, total=total)


def _print_result(file: Path, result: Transcript | AsrError | OSError, as_json: bool, alone: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"file": str(file), **_as_dict(result)}, ensure_ascii=False))
    elif isinstance(result, Transcript):
        typer.echo(result.text if alone else f"{file}: {result.text}")
        timings = result.timings
        _console.print(
            f"{file.name}: {1000 * timings.total:.0f} ms, of which the call took {1000 * timings.call:.0f} ms "
            f"({result.transport} to {result.endpoint})",
            style="dim",
            markup=False,
        )
    else:
        _console.print(f"error: {file}: {result}", style="red", markup=False)


def _as_dict(result: Transcript | AsrError | OSError) -> dict[str, Any]:
    if isinstance(result, Transcript):
        return dataclasses.asdict(result)
    return {"error": type(result).__name__, "message": str(result)}


def _yes(value: bool) -> str:
    return "[green]yes[/]" if value else "[red]no[/]"
