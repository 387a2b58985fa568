"""Memory and processor time of a server's processes, by /proc."""

from pathlib import Path
from typing import NamedTuple

from asrloop.tritonserver.processes import model_processes
from asrloop_bench.method import machine_load
from asrloop_bench.method.target import Target


class Memory(NamedTuple):
    """Resident memory of a process in MB: now, and the most so far."""

    resident: float
    peak: float


def of_process(number: int) -> Memory:
    status = Path(f"/proc/{number}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return Memory(*(int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM")))


def of_decoder(server: Target) -> Memory:
    return of_process(model_processes(server.pid or 0)["decoder_loop"])


def processor_seconds(server: Target) -> float:
    processes = (server.pid or 0, *model_processes(server.pid or 0).values())
    return sum(machine_load.stat(process)[1] for process in processes)
