"""A real HAProxy with the project's own file, before servers on free ports."""

import csv
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from asrloop.tritonserver.checks import free_ports
from tests.conftest import ROOT, eventually
from tests.faults.harness import Serving

FILE = ROOT / "deploy" / "haproxy.cfg"


class Balancer:
    """Where it listens, and what its runtime interface says and does. Servers are numbered from 0."""

    def __init__(self, address: str, admin: Path) -> None:
        self.address = address
        self._admin = admin

    def told(self, command: str) -> str:
        """The answer to a command."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self._admin))
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def set_state(self, server: int, state: str) -> None:
        """``drain``: no new calls; ``ready``: as before."""
        answer = self.told(f"set server asrloop/asr{server + 1} state {state}").strip()
        assert answer == "", answer

    def table(self) -> list[Mapping[str, str]]:
        """What is known of each server."""
        lines = self.told("show stat").lstrip("# ").splitlines()
        rows = [row for row in csv.DictReader(lines) if row["pxname"] == "asrloop" and row["svname"].startswith("asr")]
        return sorted(rows, key=lambda row: row["svname"])

    def calls(self) -> list[int]:
        """How many each server got so far."""
        return [int(row["stot"]) for row in self.table()]

    def is_up(self, server: int) -> bool:
        """Whether it gets calls."""
        return self.table()[server]["status"] == "UP"

    def under_way(self, server: int) -> int:
        """Calls that it works on now."""
        return int(self.table()[server]["scur"])


@contextmanager
def balancing(folder: Path, servers: Sequence[Serving]) -> Iterator[Balancer]:
    """HAProxy before at most three servers; a place without a server is down."""
    (port,) = free_ports(1)
    admin = folder / "admin.sock"
    variables = {"LISTEN": f"127.0.0.1:{port}", "ADMIN_SOCKET": str(admin)}
    for number in range(3):
        grpc, http = (servers[number].grpc, servers[number].http) if number < len(servers) else free_ports(2)
        variables |= {f"ASR{number + 1}_GRPC": f"127.0.0.1:{grpc}", f"ASR{number + 1}_HTTP_PORT": str(http)}
    log = folder / "haproxy.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(FILE)], env={**os.environ, **variables}, stdout=sink, stderr=sink
        )
    try:
        balancer = Balancer(variables["LISTEN"], admin)
        assert eventually(admin.exists, 10), log.read_text()
        assert eventually(lambda: all(map(balancer.is_up, range(len(servers)))), 30), log.read_text()
        yield balancer
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
