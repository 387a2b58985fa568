"""The arms of the ladder: six ways to serve the same clips, another model, and peers, each with its layouts over the cores."""

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


class Arm(NamedTuple):
    """The name of its row, and its fastest layouts with one caller and with several.

    All layouts were tried on 2026-11-28 on 2 cores; docs/performance.md has the times.
    """

    row: str
    alone: str = TOGETHER
    several: str = APART
    model: str = ""
    """The model that a caller asks; without one it calls encoder and decoder itself."""

    def layout(self, callers: int) -> str:
        return self.alone if callers == 1 else self.several


RUNGS: Mapping[str, Arm] = {
    "channel_per_call": Arm("a channel per call, loop in the client, vendor graphs"),
    "pooled": Arm("a channel of the client's pool per call, loop in the client, vendor graphs"),
    "bls": Arm("loop in Triton by BLS, vendor graphs", model="ladder_bls"),
    "in_process": Arm("loop in Triton in-process, vendor graphs", model="ladder_in_process"),
    "clean": Arm("the same with the clean graphs", model="ladder_clean"),
    "continuous": Arm("continuous batching (asr_ensemble)", OWN, OWN, model="asr_ensemble"),
}
WHISPER = "whisper"
"""The recognizer with Whisper tiny.en, beside the default."""
PEERS: Mapping[str, Arm] = {
    WHISPER: Arm("continuous batching, Whisper tiny.en", OWN, OWN, model=WHISPER),
    "faster_whisper": Arm("faster-whisper behind FastAPI, Whisper tiny.en", TOGETHER, APART),
    "vendor_runtime": Arm("the vendor's C++ runtime (moonshine-voice), no server", TOGETHER, TOGETHER),
    "fastapi": Arm("FastAPI with a thread pool on the clean graphs", SHARED, APART),
}
ARMS = {**RUNGS, **PEERS}
OURS = {**RUNGS, WHISPER: PEERS[WHISPER]}
"""Those that tritonserver serves."""


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
