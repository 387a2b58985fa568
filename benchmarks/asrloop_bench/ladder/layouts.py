"""How an arm is spread over the cores. Each is tried in all of its layouts; the one that is fastest with so many callers counts."""

from pathlib import Path

from asrloop.cores import usable_cores
from asrloop.paths import link_or_copy
from asrloop_bench.checkout import LADDER_MODELS

MOST = 4
"""Graphs this small do not gain from more threads, nor this comparison from more copies of them."""

TOGETHER, APART, SHARED = "together", "apart", "shared"
LAYOUTS = {
    TOGETHER: "one instance with a thread a core",
    APART: "an instance a core with one thread each",
    SHARED: "one instance with one thread for each request it works on",
}


def cores() -> int:
    """Instances, or threads of an instance."""
    return min(MOST, usable_cores())


def repository(layout: str, folder: Path) -> Path:
    """The ladder's models in a layout: TOGETHER as they are, APART as a copy in ``folder``."""
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
    """A config.pbtxt with so many instances of one thread."""
    return config.replace("count: 1 }", f"count: {instances} }}").replace(
        '"intra_op_thread_count" value { string_value: "0" }', '"intra_op_thread_count" value { string_value: "1" }'
    )
