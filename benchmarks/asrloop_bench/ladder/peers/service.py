"""Starts the FastAPI service in an environment of its own."""

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asrloop import paths
from asrloop.config import Settings
from asrloop.tritonserver.checks import free_ports
from asrloop_bench.checkout import PREPARED, ROOT
from asrloop_bench.ladder.peers.environment import PeerError, python_of

SERVICE = Path(__file__).resolve().parent / "fastapi_service.py"
START_SECONDS = 60.0


@contextmanager
def started(settings: Settings, processes: int, threads: int) -> Iterator[int]:
    """The port of a service of so many processes, whose sessions have so many threads. Raises PeerError."""
    (port,) = free_ports(1)
    python = python_of("fastapi", paths.cache())
    numbers = map(str, (port, processes, threads, settings.audio.max_seconds))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [str(python), str(SERVICE), str(PREPARED), *numbers]
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            _wait(port, process)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise PeerError(f"the FastAPI service ended with code {process.returncode} at its start")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/openapi.json")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise PeerError(f"the FastAPI service was not ready after {START_SECONDS:g} s")
