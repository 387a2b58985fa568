"""Starts the FastAPI service in an environment of its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asrloop import paths
from asrloop.config import Settings
from asrloop.tritonserver.checks import free_ports
from asrloop_bench import processes
from asrloop_bench.checkout import PREPARED, ROOT
from asrloop_bench.ladder.peers.environment import PeerError, python_of

SERVICE = Path(__file__).resolve().parent / "fastapi_service.py"
START_SECONDS = 60.0


@contextmanager
def started(settings: Settings, workers: int, threads: int) -> Iterator[int]:
    """Give the port of a service of so many processes, whose sessions have so many threads. Raises PeerError."""
    (port,) = free_ports(1)
    python = python_of("fastapi", paths.cache())
    numbers = map(str, (port, workers, threads, settings.audio.max_seconds))
    url = f"http://127.0.0.1:{port}/openapi.json"
    with processes.running(
        "the FastAPI service", [str(python), str(SERVICE), str(PREPARED), *numbers], lambda _: processes.answers(url),
        seconds=START_SECONDS, environment={**os.environ, "PYTHONPATH": str(ROOT)}, error=PeerError,
    ):  # fmt: skip
        yield port
