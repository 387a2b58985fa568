"""The layout of each arm of the ladder over the cores of the machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from asrloop.cores import usable_cores
from asrloop.paths import link_or_copy
from asrloop_bench.checkout import LADDER_MODELS

MOST = 4
"""Graphs this small do not gain from more threads, nor this comparison from more copies of them."""

OWN = "own"
"""This project's server with its settings unchanged, for all lengths and numbers of callers."""
TOGETHER = "together"
"""One instance with a thread a core."""
APART = "apart"
"""An instance a core with one thread each."""
SHARED = "shared"
"""One instance whose sessions have one thread, for each request it works on."""


class Layouts(NamedTuple):
    """The fastest layouts of an arm: with one caller, and with several."""

    alone: str
    several: str

    def of(self, callers: int) -> str:
        return self.alone if callers == 1 else self.several


FASTEST: Mapping[str, Layouts] = {
    "channel_per_call": Layouts(TOGETHER, APART),
    "pooled": Layouts(TOGETHER, APART),
    "bls": Layouts(TOGETHER, APART),
    "in_process": Layouts(TOGETHER, APART),
    "clean": Layouts(TOGETHER, APART),
    "continuous": Layouts(OWN, OWN),
    "vendor_runtime": Layouts(TOGETHER, TOGETHER),
    "fastapi": Layouts(SHARED, APART),
}
"""By arm; all were tried on 2026-11-28 on 2 cores. docs/performance.md has the times."""


def cores() -> int:
    """Return the number of instances, or of threads of an instance."""
    return min(MOST, usable_cores())


def repository(layout: str, folder: Path) -> Path:
    """Return the ladder's models in a layout: TOGETHER as they are, APART as a copy in ``folder``."""
    if layout == TOGETHER:
        return LADDER_MODELS
    for source in LADDER_MODELS.rglob("*"):
        target = folder / source.relative_to(LADDER_MODELS)
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif source.name == "config.pbtxt":
            target.write_text(apart(source.read_text(encoding="utf-8"), cores()), encoding="utf-8")
        elif source.is_file():
            link_or_copy(source, target)
    return folder


def apart(config: str, instances: int) -> str:
    """Return the text of a config.pbtxt with so many instances of one thread."""
    return config.replace("count: 1 }", f"count: {instances} }}").replace(
        '"intra_op_thread_count" value { string_value: "0" }', '"intra_op_thread_count" value { string_value: "1" }'
    )
