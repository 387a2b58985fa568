"""`asrloop serve` and `asrloop gateway` as processes of their own, as an operator starts them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from asrloop.tritonserver.checks import free_ports
from asrloop_bench import processes
from asrloop_bench.checkout import ROOT

START_SECONDS = 90.0


class Server(NamedTuple):
    """Its addresses, host:port."""

    http: str
    grpc: str
    metrics: str


@contextmanager
def server() -> Iterator[Server]:
    """Run `asrloop serve` on free ports. Raises TritonError where it does not start."""
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(), strict=True))
    with _running("serve", *(f"--{name}-port={port}" for name, port in ports.items())):
        yield Server(*(f"127.0.0.1:{port}" for port in ports.values()))


@contextmanager
def gateway(grpc: str, **settings: str) -> Iterator[str]:
    """Run `asrloop gateway` before that server, on a free port and with those of its settings; gives host:port."""
    (port,) = free_ports(1)
    variables = {f"ASRLOOP_GATEWAY_{name.upper()}": value for name, value in settings.items()}
    with _running("gateway", f"--server={grpc}", f"--port={port}", **variables):
        yield f"127.0.0.1:{port}"


@contextmanager
def _running(name: str, *options: str, **variables: str) -> Iterator[None]:
    command = [sys.executable, "-m", "asrloop.cli", name, *options]
    with processes.running(
        f"asrloop {name}", command, lambda written: "Ctrl-C stops it" in written,
        seconds=START_SECONDS, environment={**os.environ, **variables}, folder=ROOT,
    ):  # fmt: skip
        yield
