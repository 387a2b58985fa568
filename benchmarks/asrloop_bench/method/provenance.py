"""Results as JSON files, with their provenance: versions, machine, settings, git commit, command line."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from asrloop.config import Settings
from asrloop.cores import usable_cores
from asrloop.families.registry import DESCRIPTION
from asrloop_bench.checkout import PREPARED, ROOT
from asrloop_bench.method import machine_load

_PACKAGES = ("asrloop", "asrloop-client", "onnxruntime", "numpy", "tritonclient", "grpcio")
# They make 8-bit arithmetic fast; two processors of one name may differ in them.
_INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")


def describe(settings: Settings, **more: Any) -> dict[str, Any]:
    """Return plain data for a JSON file, with ``more`` added unchanged."""
    model = PREPARED / DESCRIPTION
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "processor": _cpu("model name") or platform.machine(),
            "instructions": [name for name in _INSTRUCTIONS if name in _cpu("flags").split()],
            "usable_cores": usable_cores(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": " ".join([platform.system(), platform.release(), *platform.libc_ver()]),
            "load_average": os.getloadavg()[0],
        },
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        "model": json.loads(model.read_text(encoding="utf-8")) if model.is_file() else {},
        "settings": settings.model_dump(mode="json"),
        **more,
    }


def in_words(about: Mapping[str, Any]) -> str:
    """Return the machine and the day of a result: ``AMD EPYC (avx2), 2 cores, 2026-01-31``."""
    machine = about["machine"]
    instructions = f" ({', '.join(machine['instructions'])})" if machine.get("instructions") else ""
    return f"{machine['processor']}{instructions}, {machine['usable_cores']} cores, {about['time'][:10]}"


def in_full(about: Mapping[str, Any], loads: Sequence[Mapping[str, float]]) -> str:
    """Return machine, day, commit, and how busy other programs kept the machine before and while it was measured."""
    changes = " with changes" if about["git_changed"] else ""
    load = machine_load.in_words(about["load_before"], loads)
    return f"{in_words(about)}; commit {about['git_commit'][:7]}{changes}; {load}"


def command(about: Mapping[str, Any]) -> str:
    """Return the command line that measured, without the folders of absolute paths."""
    name, *arguments = about["command"]
    shown = [Path(one).name if Path(one).is_absolute() else one for one in arguments]
    return shlex.join([f"scripts/{name}" if name.endswith(".py") else name, *shown])


def _cpu(name: str) -> str:
    found = re.search(rf"^{name}\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def folder(kind: str) -> Path:
    """Return the default folder for the results of a run of this kind that starts now."""
    return ROOT / "results" / time.strftime(f"%Y%m%d-%H%M%S-{kind}")


def save(path: Path, result: Mapping[str, Any]) -> None:
    """Write ``result`` as JSON, a line for each list of numbers, and make the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), json.dumps(result, indent=1))
    path.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> dict[str, Any]:
    """Read a saved run of the ladder. Raises ValueError for any other file."""
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "cells" not in result:
        raise ValueError(f"{path}: no saved run; make one with `python scripts/benchmark.py run --output {path}`")
    return result
