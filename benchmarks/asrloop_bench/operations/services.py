"""`asrloop gateway` as a process of its own, as an operator starts it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from asrloop.tritonserver.checks import free_ports
from asrloop_bench import processes
from asrloop_bench.checkout import ROOT

START_SECONDS = 90.0


@contextmanager
def gateway(grpc: str, **settings: str) -> Iterator[str]:
    """Run `asrloop gateway` before the server at ``grpc``, with ``settings`` and on a free port; gives host:port.

    Raises TritonError where it does not start.
    """
    (port,) = free_ports(1)
    variables = {f"ASRLOOP_GATEWAY_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "asrloop.cli", "gateway", f"--server={grpc}", f"--port={port}"]
    with processes.running(
        "asrloop gateway", command, lambda written: "Ctrl-C stops it" in written,
        seconds=START_SECONDS, environment={**os.environ, **variables}, folder=ROOT,
    ):  # fmt: skip
        yield f"127.0.0.1:{port}"
