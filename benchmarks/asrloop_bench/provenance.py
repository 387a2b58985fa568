"""What a result needs to be repeated: versions, machine, settings, git commit, command line."""

import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from asrloop.config import Settings
from asrloop.cores import usable_cores

_PACKAGES = ("asrloop", "asrloop-client", "onnxruntime", "numpy", "tritonclient", "grpcio")


def describe(root: Path, settings: Settings, **more: Any) -> dict[str, Any]:
    """Plain data for a JSON file; ``more`` is added as it is."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_commit": _git(root, "rev-parse", "HEAD"),
        "git_changed": bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "processor": _processor(),
            "usable_cores": usable_cores(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": " ".join([platform.system(), platform.release(), *platform.libc_ver()]),
            "load_average": os.getloadavg()[0],
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "model": _model(root),
        "settings": settings.model_dump(mode="json"),
        **more,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _model(root: Path) -> dict[str, Any]:
    try:
        path = root / "model_repository" / "decoder" / "1" / "family.json"
        return {str(name): value for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError):
        return {}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(root: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
