"""A real HAProxy with the project's own file, before servers of this machine."""

import csv
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from asrloop.tritonserver.checks import free_ports
from asrloop.tritonserver.install import TritonError
from asrloop_bench import processes
from asrloop_bench.checkout import ROOT

FILE = ROOT / "deploy" / "haproxy.cfg"
PLACES = 3
"""Servers that the file names."""
START_SECONDS = 30.0


class Balancer(NamedTuple):
    """Its address, and its runtime interface. Servers are numbered from 0."""

    address: str
    admin: Path

    def told(self, command: str) -> str:
        """Send a command and return the answer. Raises OSError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.admin))
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def table(self) -> list[Mapping[str, str]]:
        lines = self.told("show stat").lstrip("# ").splitlines()
        rows = [row for row in csv.DictReader(lines) if row["pxname"] == "asrloop" and row["svname"].startswith("asr")]
        return sorted(rows, key=lambda row: row["svname"])

    def is_up(self, server: int) -> bool:
        return self.table()[server]["status"] == "UP"


@contextmanager
def balancing(servers: Sequence[tuple[str, int]]) -> Iterator[Balancer]:
    """Run HAProxy before at most PLACES servers, each a gRPC address and an HTTP port; a place without a server is down.

    Raises TritonError where HAProxy is not installed, or the servers do not answer it.
    """
    program = shutil.which("haproxy")
    if program is None:
        raise TritonError("haproxy is not on PATH; install it (Debian, Ubuntu: apt-get install haproxy)")
    with tempfile.TemporaryDirectory(prefix="haproxy-") as scratch:
        admin = Path(scratch, "admin.sock")
        variables = {"LISTEN": f"127.0.0.1:{free_ports(1)[0]}", "ADMIN_SOCKET": str(admin)}
        for number in range(PLACES):
            unused = free_ports(2)
            grpc, http = servers[number] if number < len(servers) else (f"127.0.0.1:{unused[0]}", unused[1])
            variables |= {f"ASR{number + 1}_GRPC": grpc, f"ASR{number + 1}_HTTP_PORT": str(http)}
        balancer = Balancer(variables["LISTEN"], admin)
        with processes.running(
            "HAProxy", [program, "-db", "-f", str(FILE)],
            lambda _: admin.exists() and all(map(balancer.is_up, range(len(servers)))),
            seconds=START_SECONDS, environment={**os.environ, **variables},
        ):  # fmt: skip
            yield balancer
