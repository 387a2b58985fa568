"""A real gateway before the real server of the run, each on a free port and stopped by its process id."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from asrloop.tritonserver.process import TritonServer

START_SECONDS = 120
STOP_SECONDS = 60


class RunningGateway:
    """Its address, and its process."""

    def __init__(self, server: str, settings: dict[str, str]) -> None:
        self.log: list[str] = []
        variables = {f"ASRLOOP_GATEWAY_{name.upper()}": value for name, value in settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asrloop_gateway.cli", "--server", server, "--port", "0"],
            env={**os.environ, "ASRLOOP_GATEWAY_REQUESTS_PER_MINUTE": "100000", **variables},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._ready = threading.Event()
        self.port = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_SECONDS) or not self.port:
            self.stop()
            pytest.fail("the gateway did not start:\n" + "\n".join(self.log))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            if found := re.search(r"page +https?://.*:(\d+)/", line):
                self.port = int(found[1])
                self._ready.set()
        self._ready.set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        """Files and connections that are open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def metric(self, name: str) -> float:
        """The value of a line of /metrics; 0 when it is not there."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def signal(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it, and return its exit code."""
        if self.process.poll() is None:
            self.signal()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join(5)
            assert self.process.stderr is not None
            self.process.stderr.close()


StartGateway = Callable[..., AbstractContextManager[RunningGateway]]


@pytest.fixture(scope="session")
def start_gateway() -> StartGateway:
    """A context manager that runs a gateway before a server's gRPC address; keywords are its settings."""

    @contextmanager
    def start(server: str, **settings: str) -> Iterator[RunningGateway]:
        running = RunningGateway(server, settings)
        try:
            yield running
        finally:
            running.stop()
            print("\n".join(running.log))

    return start


@pytest.fixture(scope="session")
def gateway(start_gateway: StartGateway, server: TritonServer) -> Iterator[RunningGateway]:
    """One for the whole run."""
    with start_gateway(server.grpc_endpoint) as running:
        yield running


@pytest.fixture(scope="session")
def beckett_file(beckett_path: Path) -> bytes:
    """The bytes of beckett.wav."""
    return beckett_path.read_bytes()


@pytest.fixture(scope="session")
def long_file(beckett: NDArray[np.float32]) -> bytes:
    """Beckett's words twenty times, as FLAC: four minutes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.tile(np.pad(beckett, (0, 24_000)), 20), 16_000, format="FLAC")
    return buffer.getvalue()


def pcm(samples: NDArray[np.float32]) -> bytes:
    """16-bit PCM."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Fails unless it holds in time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
