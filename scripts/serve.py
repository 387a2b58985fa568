"""Serve the model repository with a real tritonserver until Ctrl-C."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from asrloop import config
from asrloop.triton_runtime import TritonError, find_or_assemble
from asrloop.triton_server import TritonServer, stopped_by_signals
from asrloop.wheels import WheelError

ROOT = Path(__file__).resolve().parents[1]
STYLES = {"error": "red", "warning": "yellow", "info": "", "verbose": "dim"}


def main(
    http_port: Annotated[int | None, typer.Option(help="HTTP port. [default: config.yaml]", min=1, max=65535)] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC port. [default: config.yaml]", min=1, max=65535)] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Metrics port. [default: config.yaml]", min=1, max=65535)
    ] = None,
    model_repository: Annotated[Path, typer.Option(help="Folder with the models.")] = ROOT / "model_repository",
    log_level: Annotated[
        str | None, typer.Option(help="error, warning, info or verbose. [default: config.yaml]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: config.yaml]")] = None,
) -> None:
    """Serve the model repository with a real tritonserver until Ctrl-C."""
    console = Console(stderr=True, highlight=False)

    def log(level: str, text: str) -> None:
        console.print(f"{level:>8}  {text}", style=STYLES[level], markup=False, soft_wrap=True)

    given = {
        "http_port": http_port,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        "log_level": log_level,
        "host": host,
    }
    try:
        settings = config.ServerSettings.model_validate(
            config.load().server.model_dump() | {key: value for key, value in given.items() if value is not None}
        )
        installation = find_or_assemble(ROOT / ".cache", ROOT / "backends")
        with stopped_by_signals():
            console.print(f"Starting tritonserver ({installation.origin}) ...")
            with TritonServer(installation, model_repository, settings, log) as server:
                console.print(f"Ready.  HTTP     http://{server.http_endpoint}")
                console.print(f"        gRPC     {server.grpc_endpoint}")
                console.print(f"        metrics  {server.metrics_url}")
                console.print("Ctrl-C stops it.")
                code = server.wait()
                raise TritonError(f"tritonserver ended by itself with code {code}; its log above says why")
    except KeyboardInterrupt:
        console.print("Stopped.")
    except (TritonError, WheelError, config.ConfigError, ValueError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
