"""What a result needs to be repeated: versions, machine, settings, git commit, command line."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from asrloop.config import Settings
from asrloop.cores import usable_cores
from asrloop.families.registry import DESCRIPTION
from asrloop_bench.checkout import PREPARED, ROOT

_PACKAGES = ("asrloop", "asrloop-client", "onnxruntime", "numpy", "tritonclient", "grpcio")
# What 8-bit arithmetic is fast by; two processors of one name may differ in it.
_INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")


def describe(settings: Settings, **more: Any) -> dict[str, Any]:
    """Plain data for a JSON file; ``more`` is added as it is."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "processor": next(_cpu_lines("model name"), platform.machine()),
            "instructions": [name for name in _INSTRUCTIONS if name in next(_cpu_lines("flags"), "").split()],
            "usable_cores": usable_cores(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": " ".join([platform.system(), platform.release(), *platform.libc_ver()]),
            "load_average": os.getloadavg()[0],
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "model": _model(),
        "settings": settings.model_dump(mode="json"),
        **more,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def in_words(about: Mapping[str, Any]) -> str:
    """The machine and the day of a result: ``AMD EPYC (avx2), 2 cores, 2026-01-31``."""
    machine = about["machine"]
    instructions = f" ({', '.join(machine['instructions'])})" if machine.get("instructions") else ""
    return f"{machine['processor']}{instructions}, {machine['usable_cores']} cores, {about['time'][:10]}"


def _model() -> dict[str, Any]:
    try:
        return dict(json.loads((PREPARED / DESCRIPTION).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _cpu_lines(name: str) -> Iterator[str]:
    """The values of ``name`` in /proc/cpuinfo, a core each."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    yield from (line.split(":", 1)[1].strip() for line in lines if line.split("\t")[0] == name)


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
