"""Saves results as JSON files."""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asrloop_bench.checkout import ROOT


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
    result = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(result, dict) or "cells" not in result:
        raise ValueError(f"{path}: no saved run; make one with `python scripts/benchmark.py run --output {path}`")
    return result
