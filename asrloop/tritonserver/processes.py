"""Processes of a running tritonserver: finding them, noticing when one ends, and why it ended."""

import os
import re
import select
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_MODEL = re.compile(rb"/([^/\0]+)/\d+/model\.py\0")


def model_processes(server: int) -> dict[str, int]:
    """Return the process id of the Python stub of each model, by model, for the tritonserver with process id ``server``."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
            model = _MODEL.search((path / "cmdline").read_bytes()) if parent == server else None
        except OSError:
            continue  # ended meanwhile
        if model is not None:
            found[model[1].decode()] = int(path.name)
    return found


def local_server(http_port: int) -> dict[str, int]:
    """Return the process ids of the tritonserver that was started for this port and of its models, by name; none where it
    does not run here."""
    for path in Path("/proc").glob("[0-9]*"):
        arguments = _arguments(path)
        if arguments and arguments[0].endswith("tritonserver") and f"--http-port={http_port}" in arguments:
            return {"tritonserver": int(path.name), **model_processes(int(path.name))}
    return {}


def metrics_port(server: int) -> int | None:
    """Return the port of the metrics that a tritonserver was started with; None where its command does not say."""
    ports = [each.partition("=")[2] for each in _arguments(Path(f"/proc/{server}")) if "--metrics-port=" in each]
    return int(ports[0]) if ports and ports[0].isdecimal() else None


def _arguments(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # ended meanwhile
        return []


def processor_seconds(process: int) -> float:
    """Return for how long a process used the processor or waited for it, in seconds (proc(5), stat, schedstat).

    Threads that are stopped, or wait for anything else, use none. 0 for a process that ended.
    """
    path = Path(f"/proc/{process}")
    try:
        fields = (path / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    waited = 0
    for task in path.glob("task/*/schedstat"):
        with suppress(OSError):  # a thread that ended, or a kernel that does not count
            waited += int(task.read_text(encoding="ascii").split()[1])
    return used + waited / 1e9


class ProcessWatch:
    """Watches for the end of processes through their pidfds (pidfd_open(2)), so that reused process ids do not matter.

    Use it as a context manager; it holds a file descriptor for each process.
    """

    def __init__(self, processes: Mapping[str, int]) -> None:
        """Watch ``processes``, process ids by name. Raises OSError for one that has ended already."""
        self._poll = select.poll()
        self._names: dict[int, str] = {}
        self._processes = dict(processes)
        for name, process in processes.items():
            descriptor = os.pidfd_open(process)
            self._names[descriptor] = name
            self._poll.register(descriptor, select.POLLIN)

    def ended(self, timeout: float) -> str | None:
        """Wait ``timeout`` s for a process to end. Return which ended and why, or None."""
        for descriptor, _ in self._poll.poll(1000 * timeout):
            name = self._names[descriptor]
            return f"the process of {name} ({self._processes[name]}) {_why(self._processes[name])}"
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._names:
            os.close(descriptor)


def _why(process: int) -> str:
    """Return how a process ended that its parent has not reaped yet (proc(5), exit_code of /proc/PID/stat)."""
    try:
        status = int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[49])
    except OSError:
        return "ended"
    if not os.WIFSIGNALED(status):
        return f"ended with code {os.waitstatus_to_exitcode(status)}"
    return f"was ended by {signal_named(os.WTERMSIG(status))}"


def signal_named(number: int) -> str:
    """Return the name of a signal that ended a process, with its usual reason where nobody sent it."""
    name = signal.Signals(number).name
    return f"{name} (out of memory? see the kernel's log)" if name == "SIGKILL" else name
