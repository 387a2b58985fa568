"""The processes of a running tritonserver: which there are, how to hear of the end of each, and why one ended."""

import os
import re
import select
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_MODEL = re.compile(rb"/([^/\0]+)/\d+/model\.py\0")


def model_processes(server: int) -> dict[str, int]:
    """Process id of the Python stub of each model below the tritonserver ``server``."""
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


class ProcessWatch:
    """Hears of the end of processes through their pidfds (pidfd_open(2)), so that a reused number cannot mislead it.

    Use as a context manager; it holds a file descriptor a process.
    """

    def __init__(self, processes: Mapping[str, int]) -> None:
        """``processes`` are ids by what they are called. Raises OSError for one that is gone already."""
        self._poll = select.poll()
        self._names: dict[int, str] = {}
        self._processes = dict(processes)
        for name, process in processes.items():
            descriptor = os.pidfd_open(process)
            self._names[descriptor] = name
            self._poll.register(descriptor, select.POLLIN)

    def ended(self, timeout: float) -> str | None:
        """Wait ``timeout`` s for the end of a process; says which ended and why, None when all go on."""
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
    """How a process that its parent has not collected yet ended (proc(5), exit_code of /proc/PID/stat)."""
    try:
        status = int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[49])
    except OSError:
        return "ended"
    if not os.WIFSIGNALED(status):
        return f"ended with code {os.waitstatus_to_exitcode(status)}"
    name = signal.Signals(os.WTERMSIG(status)).name
    return f"was ended by {name}" + (" (out of memory? the kernel's log says so)" if name == "SIGKILL" else "")
