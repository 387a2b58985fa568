"""A real tritonserver with models whose time and outcome each request chooses, which tests can kill and start again."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from asrloop.tritonserver.checks import SHARED_MEMORY
from asrloop.tritonserver.install import TritonInstallation
from asrloop.tritonserver.process import _prepare_child
from tests.ports import free_ports

MODELS = Path(__file__).parent / "models"


class StandIn:
    """Keeps its ports over restarts."""

    def __init__(self, installation: TritonInstallation, log: Path, arguments: Sequence[str] = ()) -> None:
        self._installation = installation
        self._arguments = list(arguments)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.http_port, self.grpc_port, self.metrics_port = free_ports()
        self.address = f"127.0.0.1:{self.grpc_port}"
        self._segments = f"stand_in_{os.getpid()}_{self.grpc_port}_"

    def start(self) -> "StandIn":
        """Start and wait until the models are ready and the metrics, whose port opens last, can be read."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._installation.binary),
                    f"--model-repository={MODELS}",
                    f"--backend-directory={self._installation.backends}",
                    f"--backend-config=python,shm-region-prefix-name={self._segments}",
                    *("--http-address=127.0.0.1", f"--http-port={self.http_port}"),
                    *("--grpc-address=127.0.0.1", f"--grpc-port={self.grpc_port}"),
                    *("--metrics-address=127.0.0.1", f"--metrics-port={self.metrics_port}"),
                    *self._arguments,
                ],
                env={**os.environ, **self._installation.environment, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_prepare_child,
            )
        deadline = time.monotonic() + 120
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the stand-in did not start:\n{self._log.read_text()}")
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """SIGKILL to the server and its model processes."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for segment in SHARED_MEMORY.glob(f"{self._segments}*"):
            segment.unlink(missing_ok=True)

    def control(self, action: str, model: str) -> None:
        """Load or unload `model`; the server has to be in explicit model control mode."""
        url = f"http://127.0.0.1:{self.http_port}/v2/repository/models/{model}/{action}"
        with urllib.request.urlopen(urllib.request.Request(url, b"{}", method="POST"), timeout=30):
            pass

    def metric(self, name: str) -> float:
        """The value of a Prometheus counter without labels."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def _ready(self) -> bool:
        ports = {self.http_port: "v2/health/ready", self.metrics_port: "metrics"}
        try:
            for port, path in ports.items():
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5).close()
        except OSError:
            return False
        return True


def connections_to(address: str) -> int:
    """Established TCP connections of this process to `address`, as the kernel counts them (proc(5), /proc/net/tcp)."""
    host, port = address.rsplit(":", 1)
    # gRPC's sockets speak IPv6, to IPv4 hosts with a mapped address: its last four bytes are the IPv4 address.
    remote = f"{socket.inet_aton(host)[::-1].hex().upper()}:{int(port):04X}"
    mine = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            mine.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    established = "01"
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    # By inode: the kernel may tell a row twice when the table changes while it is read.
    return len({row[9] for row in rows if row[2].endswith(remote) and row[3] == established} & mine)
