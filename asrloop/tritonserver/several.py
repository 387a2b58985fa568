"""Several servers on one machine: each is an `asrloop serve` of its own, with its ports and its share of the cores.

So each is supervised alone: one that dies is restarted while the others serve. They start and stop together.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from asrloop.config import ServerSettings
from asrloop.cores import SERVERS_VARIABLE, shares, text_of, usable_cores
from asrloop.tritonserver.install import TritonError
from asrloop.tritonserver.process import undisturbed
from asrloop.tritonserver.processes import signal_named

PORT_STEP = 10
"""From the ports of one server to those of the next."""

CORES_OF_SERVER = 16
"""With `auto`: the interpreter of one server keeps about so many cores busy."""

READY = "Ready."
"""How the line begins that a server says each time when it is ready."""

POLL_SECONDS = 0.2
STOP_SECONDS = 10.0
"""Longest wait for a server beyond its own limit for stopping."""

_PORTS = ("http_port", "grpc_port", "metrics_port")


def number_of(servers: int | str) -> int:
    """Return how many servers are meant. Raises TritonError for more than there are cores."""
    cores = usable_cores()
    if isinstance(servers, str):  # auto
        return max(1, cores // CORES_OF_SERVER)
    if servers > 1 and servers > cores:
        raise TritonError(
            f"servers is {servers}: this process may use {cores} core{'s' * (cores > 1)}, and each server needs one of its own: "
            f"give --servers {cores}{' or fewer' * (cores > 1)} (server.servers), or more cores"
        )
    return servers


def settings_of(settings: ServerSettings, servers: int) -> list[ServerSettings]:
    """Return the settings of each server: the ports of each are PORT_STEP above those of the one before.

    Raises TritonError for ports that do not exist or that two would have.
    """
    users: dict[int, str] = {}
    found = []
    for number in range(servers):
        ports = {name: getattr(settings, name) + PORT_STEP * number for name in _PORTS}
        for name, port in ports.items():
            option = f"--{name.replace('_', '-')}"
            user = f"{name} of server {number + 1}"
            if port > 65535:
                raise TritonError(
                    f"{user} would be {port}, the last port is 65535: give {option} {65535 - PORT_STEP * (servers - 1)} or less, "
                    "or fewer servers"
                )
            if port in users:
                raise TritonError(
                    f"{user} and {users[port]} would both be {port}, as each server's ports are {PORT_STEP} above those of "
                    f"the one before: give another {option}, such as three numbers in a row"
                )
            users[port] = user
        found.append(settings.model_copy(update=ports))
    return found


class Servers:
    """Processes of `asrloop serve`, numbered from 1. Use it as a context manager: leaving stops all of them."""

    def __init__(
        self,
        settings: Sequence[ServerSettings],
        arguments: Sequence[str],
        say: Callable[[str], None],
        command: Sequence[str] = (sys.executable, "-m", "asrloop.cli", "serve"),
    ) -> None:
        """``arguments`` of `asrloop serve` go to each; ``say`` is called with each line that one logs, with its number."""
        self._settings = settings
        self._arguments = list(arguments)
        self._say = say
        self._command = list(command)
        self._processes: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        self._ready = [threading.Event() for _ in settings]

    def __enter__(self) -> Self:
        try:
            for number, (settings, cores) in enumerate(
                zip(self._settings, shares(len(self._settings)), strict=True), start=1
            ):
                self._start(number, settings, cores)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, ready: Callable[[], None]) -> None:
        """Wait until one ends by itself; ``ready`` is called once, when all are ready. Raises TritonError.

        One that gives up ends all: what started this program then knows of it, and can start it anew.
        """
        told = False
        while True:
            for number, process in enumerate(self._processes, start=1):
                if process.poll() is not None:
                    self._readers[number - 1].join(1)
                    raise TritonError(f"server {number} {_end(process.returncode)}: stopping all")
            if not told and all(event.is_set() for event in self._ready):
                told = True
                ready()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Ask all at once to finish their requests and end; kill those that take longer than their own limits allow."""
        with undisturbed():
            self._stop()

    def _stop(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + self._settings[0].stop_timeout_seconds + STOP_SECONDS
        for number, process in enumerate(self._processes, start=1):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"{number} | did not stop in time: killing it")
                process.kill()  # its tritonserver then gets SIGTERM from the kernel
                process.wait()
        for reader in self._readers:
            reader.join(1)

    def _start(self, number: int, settings: ServerSettings, cores: frozenset[int]) -> None:
        ports = [f"--{name.replace('_', '-')}={getattr(settings, name)}" for name in _PORTS]
        here: Mapping[str, str] = {SERVERS_VARIABLE: str(len(self._settings))}

        def prepare() -> None:
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # when this process dies, even by SIGKILL (prctl(2))
            os.sched_setaffinity(0, cores)

        process = subprocess.Popen(
            [*self._command, "--servers=1", *ports, *self._arguments],
            env={**os.environ, **here},
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            start_new_session=True,  # Ctrl-C in the terminal reaches only this process
            preexec_fn=prepare,
        )  # fmt: skip
        self._processes.append(process)
        reader = threading.Thread(target=self._forward, args=(number, process), name=f"log-{number}", daemon=True)
        self._readers.append(reader)
        reader.start()

    def _forward(self, number: int, process: "subprocess.Popen[str]") -> None:
        if process.stderr is None:
            raise AssertionError("the process was started without a pipe")
        with process.stderr as lines:
            for line in lines:
                if line.startswith(READY):
                    self._ready[number - 1].set()
                with suppress(Exception):  # a broken sink must not end this loop: the server would block on a full pipe
                    self._say(f"{number} | {line.rstrip()}")


def described(settings: Sequence[ServerSettings]) -> list[str]:
    """Say which addresses and cores each server gets, a line each."""
    return [
        f"server {number}: HTTP {one.http_port}, gRPC {one.grpc_port}, metrics {one.metrics_port}; cores {text_of(cores)}"
        for number, (one, cores) in enumerate(zip(settings, shares(len(settings)), strict=True), start=1)
    ]


def _end(code: int) -> str:
    return f"was ended by {signal_named(-code)}" if code < 0 else f"ended with code {code} (its log has the reason)"
