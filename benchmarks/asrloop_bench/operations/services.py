"""`asrloop serve` and `asrloop gateway` as processes of their own, as an operator starts them."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from asrloop.tritonserver.checks import free_ports
from asrloop.tritonserver.install import TritonError
from asrloop_bench.checkout import ROOT

START_SECONDS = STOP_SECONDS = 90.0


class Server(NamedTuple):
    """Where it is reached, host:port."""

    http: str
    grpc: str
    metrics: str


@contextmanager
def server() -> Iterator[Server]:
    """`asrloop serve` on free ports. Raises TritonError where it does not come up."""
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(), strict=True))
    with _running(["serve", *(f"--{name}-port={port}" for name, port in ports.items())], "Ctrl-C stops it"):
        yield Server(*(f"127.0.0.1:{port}" for port in ports.values()))


@contextmanager
def gateway(grpc: str, **settings: str) -> Iterator[str]:
    """`asrloop gateway` before that server, on a free port and with those of its settings; gives host:port."""
    (port,) = free_ports(1)
    variables = {f"ASRLOOP_GATEWAY_{name.upper()}": value for name, value in settings.items()}
    with _running(["gateway", f"--server={grpc}", f"--port={port}"], "Ctrl-C stops it", variables):
        yield f"127.0.0.1:{port}"


@contextmanager
def _running(arguments: Sequence[str], when_ready: str, variables: Mapping[str, str] | None = None) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:

        def said() -> str:
            log.seek(0)
            return log.read().decode(errors="replace")

        command = [sys.executable, "-m", "asrloop.cli", *arguments]
        # A session of its own: Ctrl-C reaches this program alone, which ends the services in order.
        environment = {**os.environ, **(variables or {})}
        process = subprocess.Popen(command, cwd=ROOT, stderr=log, start_new_session=True, env=environment)
        try:
            until = time.monotonic() + START_SECONDS
            while when_ready not in said():
                if process.poll() is not None or time.monotonic() > until:
                    raise TritonError(f"asrloop {arguments[0]} did not come up: {said().strip()}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
