"""`make demo`: run a server and the gateway until Ctrl-C. Prints the page's address when it is ready."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from asrloop.tritonserver.checks import free_ports
from asrloop.tritonserver.process import stopped_by_signals

STOP_SECONDS = 60
Process = subprocess.Popen[str]


@contextmanager
def running(*command: str) -> Iterator[Process]:
    """Run a command with a pipe for its standard error; send it SIGTERM at the end."""
    # Own session: Ctrl-C reaches only this program, which stops the gateway first and then the server.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def shown(process: Process, until: str = "") -> None:
    """Print its output until a line begins with ``until``. Raises SystemExit if the process ends before."""
    for line in process.stderr or ():
        print(line, end="", file=sys.stderr, flush=True)
        if until and line.startswith(until):
            return
    if until:
        raise SystemExit(process.wait(STOP_SECONDS) or 1)


def main(port: Annotated[int, typer.Option(help="Port of the gateway.")] = 9000) -> None:
    """Run the server and the gateway until Ctrl-C."""
    here = Path(sys.executable).parent
    http, grpc, metrics = map(str, free_ports())
    ports = ("--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics)
    with ExitStack() as stack:
        try:
            stack.enter_context(stopped_by_signals())
            server = stack.enter_context(running(str(here / "asrloop"), "serve", "--servers=1", *ports))
            shown(server, until="Ctrl-C")
            threading.Thread(target=shown, args=(server,), daemon=True).start()
            to = ("--server", f"127.0.0.1:{grpc}", "--port", str(port))
            gateway = stack.enter_context(running(str(here / "asrloop"), "gateway", *to))
            shown(gateway)
        except KeyboardInterrupt:
            print("Stopping ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
