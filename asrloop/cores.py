"""Cores that this process may use, by its affinity and its cgroup's quota, and how several servers divide them."""

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

SERVERS_VARIABLE = "ASRLOOP_SERVERS_HERE"
"""Environment variable that gives a server the number of servers that share its cgroup's quota."""

_CGROUP = Path("/sys/fs/cgroup")
_SYSTEM = Path("/sys/devices/system")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores, at least 1.

    Quotas: cpu.max of cgroup v2, cpu.cfs_quota_us of v1 (Linux, admin-guide/cgroup-v2).
    """
    cores = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return max(1, min(cores, math.ceil(quota / servers_here())) if quota else cores)


def servers_here() -> int:
    """Return how many servers share the quota: 1, unless `asrloop serve --servers` started this process."""
    with suppress(ValueError):
        return max(1, int(os.environ.get(SERVERS_VARIABLE, "1")))
    return 1


def shares(servers: int, cgroup: Path = _CGROUP, system: Path = _SYSTEM) -> list[frozenset[int]]:
    """Return the cores of each server: equal shares, which differ by one core where they do not divide.

    Cores of a NUMA node stay together, as do the threads of a physical core. Under a quota of fewer cores than the affinity has,
    each server gets all of them: the kernel decides which ones the quota is used on, and other containers use them as well.
    """
    cores = os.sched_getaffinity(0)
    quota = _quota(cgroup)
    if quota and quota < len(cores):
        return [frozenset(cores)] * servers
    nodes = _nodes(system)
    ordered = sorted(cores, key=lambda core: (nodes.get(core, 0), _first_thread(system, core), core))
    ends = [math.ceil(len(ordered) * number / servers) for number in range(servers + 1)]
    return [frozenset(ordered[begin:end]) for begin, end in pairwise(ends)]


def text_of(cores: frozenset[int]) -> str:
    """Write cores as taskset and /sys do: 0-3,8."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][-1] + 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _nodes(system: Path) -> Mapping[int, int]:
    """Return the NUMA node of each core, as far as the system tells (Linux, ABI/stable/sysfs-devices-node)."""
    found = {}
    for directory in system.glob("node/node[0-9]*"):
        for core in _listed(directory / "cpulist"):
            found[core] = int(directory.name.removeprefix("node"))
    return found


def _first_thread(system: Path, core: int) -> int:
    """Return the first thread of the physical core, by which its threads are known (Linux, ABI/stable/sysfs-devices-system-cpu)."""
    return min(_listed(system / "cpu" / f"cpu{core}" / "topology" / "thread_siblings_list"), default=core)


def _listed(file: Path) -> Sequence[int]:
    """Return the numbers of a list such as 0-3,8; none where the file is missing or has something else."""
    try:
        runs = [part.partition("-") for part in file.read_text(encoding="ascii").strip().split(",") if part]
        return [core for first, _, last in runs for core in range(int(first), int(last or first) + 1)]
    except (OSError, ValueError):
        return []


def _quota(cgroup: Path) -> float | None:
    try:
        limit, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except OSError:
            return None
    if limit == "max" or int(limit) <= 0:
        return None
    return int(limit) / int(period)
