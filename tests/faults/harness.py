"""A real `asrloop serve` to be hurt, and callers that write down how each of their requests ended."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from asrloop.tritonserver.checks import SHARED_MEMORY
from asrloop.tritonserver.processes import model_processes
from tests.conftest import BECKETT, ROOT, eventually, words
from tests.ports import free_ports

DEADLINE = 10.0
"""What callers give a request, in seconds."""

GRACE = 2.0
"""How much later it may end."""


@dataclass
class Outcomes:
    """How requests ended, counted."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: str, seconds: float) -> None:
        with self.lock:
            self.counts[outcome] += 1
            self.slowest = max(self.slowest, seconds)
            if seconds > DEADLINE + GRACE:
                self.counts["HUNG"] += 1

    def __str__(self) -> str:
        listed = ", ".join(f"{count} {name}" for name, count in self.counts.most_common())
        return f"{listed or 'none'}; slowest {self.slowest:.1f} s"


class Serving:
    """`asrloop serve` on free ports, with a quick canary."""

    def __init__(
        self,
        log: Path,
        wrapper: Sequence[str] = (),
        stderr: str | None = None,
        repository: Path = ROOT / "model_repository",
        **environment: str,
    ) -> None:
        self.http, self.grpc, self.metrics = free_ports()
        self.address = f"127.0.0.1:{self.grpc}"
        self.log = log
        options = [
            f"--model-repository={repository}",
            f"--http-port={self.http}",
            f"--grpc-port={self.grpc}",
            f"--metrics-port={self.metrics}",
        ]
        quick = {
            "ASRLOOP_SUPERVISOR__CANARY_INTERVAL_SECONDS": "1",
            "ASRLOOP_SUPERVISOR__CANARY_TIMEOUT_SECONDS": "3",
            "ASRLOOP_SUPERVISOR__MAX_RESTARTS": "50",
            "ASRLOOP_SERVER__STOP_TIMEOUT_SECONDS": "3",
        }
        self._command = [*wrapper, sys.executable, "-m", "asrloop.cli", "serve", *options]
        self._environment = {**os.environ, **quick, **environment}
        self._stderr = Path(stderr or log)
        self.start()

    def start(self) -> None:
        """Start it, on the ports that it had before if it was stopped."""
        with self._stderr.open("ab") as sink:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stderr=sink, start_new_session=True
            )

    @property
    def server(self) -> int:
        """Process id of the tritonserver that runs now; 0 while there is none."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                command = (path / "cmdline").read_bytes()
            except OSError:
                continue
            if b"bin/tritonserver\0" in command and f"--grpc-port={self.grpc}\0".encode() in command:
                return int(path.name)
        return 0

    def processes(self) -> dict[str, int]:
        """Process ids of the server and its models."""
        server = self.server
        return {"tritonserver": server, **model_processes(server)} if server else {}

    def wait(self, speech: "Speech", seconds: float = 60.0) -> float:
        """Seconds until it transcribes rightly."""
        started = time.monotonic()

        def patience() -> float:  # short, for one that hangs; then longer, for a busy machine
            return 3.0 + (time.monotonic() - started) / 4

        assert eventually(lambda: speech.ask(self.address, patience()) == "ok", seconds), self.said()
        return time.monotonic() - started

    def said(self) -> str:
        """What it wrote to standard error."""
        return self.log.read_text(errors="replace") if self.log.is_file() else ""

    def stop(self) -> None:
        """Stop it as an operator does; nothing of it may be left."""
        processes = list(self.processes().values())
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert self.process.returncode == 0, self.said()
        assert eventually(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))
        assert not list(SHARED_MEMORY.glob(f"triton_python_backend_shm_region_*_{self.grpc}_*"))


class Speech:
    """Requests with a known answer, over both ways in."""

    def __init__(self, samples: NDArray[np.float32], file: bytes) -> None:
        self.samples = samples
        self.file = file

    def ask(self, address: str, timeout: float = DEADLINE, *, by_file: bool = False) -> str:
        """How one request ends: ``ok``, ``WRONG TEXT``, or the gRPC status."""
        try:
            with triton.InferenceServerClient(address, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as client:
                return self.ask_on(client, timeout, by_file=by_file)
        except InferenceServerException as error:
            return str(error.status()).removeprefix("StatusCode.").lower()

    def ask_on(self, client: triton.InferenceServerClient, timeout: float, *, by_file: bool = False) -> str:
        """The same on a connection that is open. Raises InferenceServerException."""
        if by_file:
            tensor = triton.InferInput("AUDIO", [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[self.file]], np.object_))
        else:
            tensor = triton.InferInput("WAV", [1, self.samples.size], "FP32")
            tensor.set_data_from_numpy(self.samples[None])
        model = "asr_file" if by_file else "asr_ensemble"
        answer = client.infer(model, [tensor], client_timeout=timeout, timeout=round(timeout * 1e6))
        text = words(answer.as_numpy("TRANSCRIPTS")[0, 0].decode())
        return "ok" if text == BECKETT else "WRONG TEXT"


@contextmanager
def callers(address: str, speech: Speech, count: int = 8) -> Iterator[Outcomes]:
    """``count`` callers that ask again and again while the block runs, with no retry and no pause but after an error."""
    outcomes, stop = Outcomes(), threading.Event()

    def ask(number: int) -> None:
        random_ = random.Random(number)
        while not stop.is_set():
            started = time.monotonic()
            outcome = speech.ask(address, by_file=random_.random() < 0.5)
            outcomes.add(outcome, time.monotonic() - started)
            if outcome != "ok":
                stop.wait(0.1)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE + GRACE + 5)
        assert not any(thread.is_alive() for thread in threads), "a request never ended"
