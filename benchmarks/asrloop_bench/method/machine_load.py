"""What /proc says: the load by other programs while something is measured, memory and processor time of a server."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asrloop.tritonserver.processes import model_processes
from asrloop_bench.method.target import Target

_TICKS = os.sysconf("SC_CLK_TCK")


class Moment(NamedTuple):
    """Processor seconds up to a moment: of everybody, of this process and its descendants, taken away by the hypervisor."""

    at: float
    busy: float
    ours: float
    stolen: float


def now() -> Moment:
    fields = [int(field) / _TICKS for field in Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]]
    user, nice, system, _, _, irq, soft, stolen = fields
    return Moment(time.monotonic(), user + nice + system + irq + soft, _ours(), stolen)


def between(before: Moment, after: Moment) -> dict[str, float]:
    """Return the cores kept busy by us, by others, and taken away by the hypervisor in between, and the load average after."""
    seconds = max(1e-9, after.at - before.at)
    ours, stolen = after.ours - before.ours, after.stolen - before.stolen
    return {
        "cores_ours": round(ours / seconds, 2),
        "cores_others": round(max(0.0, after.busy - before.busy - ours) / seconds, 2),
        "cores_stolen": round(stolen / seconds, 2),
        "load_average": round(os.getloadavg()[0], 2),
    }


def sample(seconds: float = 1.0) -> dict[str, float]:
    before = now()
    time.sleep(seconds)
    return between(before, now())


def in_words(before: Mapping[str, float], during: Sequence[Mapping[str, float]]) -> str:
    """Return words such as ``load 0.3 before; others used 0.02 cores while measured, 0.31 at most``."""
    words = f"load {before['load_average']:g} before"
    if not during:
        return words
    others = [one["cores_others"] + one["cores_stolen"] for one in during]
    return f"{words}; others used {sum(others) / len(others):.2f} cores while measured, {max(others):.2f} at most"


def stat(number: int, *, with_ended: bool = False) -> tuple[int, float]:
    """Return the parent of a process and the processor seconds that it used, also by children that have ended where wanted."""
    fields = Path(f"/proc/{number}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return int(fields[1]), sum(int(field) for field in fields[11 : 15 if with_ended else 13]) / _TICKS


def _ours() -> float:
    """Return the processor seconds of this process and its descendants, those that have ended among them."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*"):
        number = int(path.name)
        try:
            parents[number], seconds[number] = stat(number, with_ended=True)
        except OSError:  # it ended meanwhile
            continue

    def is_ours(number: int) -> bool:
        while number > 1 and number != os.getpid():
            number = parents.get(number, 0)
        return number == os.getpid()

    return sum(used for number, used in seconds.items() if is_ours(number))


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
    return sum(stat(process)[1] for process in processes)
