"""The whole thing once: start a real tritonserver, transcribe speech through it, print text and timing, stop."""

import time
from pathlib import Path
from typing import Annotated

import soundfile
import typer
from asrloop_client import AsrClient, AsrError
from rich.console import Console

from asrloop import config
from asrloop.triton_runtime import TritonError, find_or_assemble
from asrloop.triton_server import TritonServer, free_ports, stopped_by_signals
from asrloop.wheels import MOONSHINE_TINY_EN, WheelError

ROOT = Path(__file__).resolve().parents[1]


def main(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Audio files. [default: speech from the model's wheel]")
    ] = None,
) -> None:
    """Start a server on free ports, transcribe, stop."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        settings = config.load()
        http, grpc, metrics = free_ports()
        server_settings = settings.server.model_copy(
            update={"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
        )
        installation = find_or_assemble(ROOT / ".cache", ROOT / "backends")
        paths = files or [MOONSHINE_TINY_EN.fetch(ROOT / ".cache") / "moonshine_voice" / "assets" / "beckett.wav"]
        started = time.monotonic()
        console.print(f"Starting tritonserver ({installation.origin}) ...")
        with (
            stopped_by_signals(),
            TritonServer(installation, ROOT / "model_repository", server_settings, _log(console)) as server,
        ):
            console.print(f"Ready after {time.monotonic() - started:.1f} s.")
            with AsrClient(server.grpc_endpoint) as client:
                for path in paths:
                    transcribe(client, path, console)
        console.print("Stopped.")
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(130) from None
    except (TritonError, WheelError, AsrError, config.ConfigError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        raise typer.Exit(1) from None


def transcribe(client: AsrClient, path: Path, console: Console) -> None:
    """Print the transcript of ``path`` and how long its request took."""
    client.transcribe(path)  # the first request of a server is slower than the rule
    started = time.perf_counter()
    transcript = client.transcribe(path)
    took = time.perf_counter() - started
    seconds = soundfile.info(path).duration
    console.print(f"\n[bold]{path.name}[/bold] ({seconds:.1f} s of audio)")
    console.print(transcript.text, markup=False)
    console.print(f"{took * 1000:.0f} ms from file to text, real-time factor {took / seconds:.3f}\n")


def _log(console: Console):
    return lambda level, text: console.print(f"{level:>8}  {text}", markup=False)


if __name__ == "__main__":
    typer.run(main)
