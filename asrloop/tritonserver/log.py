"""Parsing of tritonserver's log: the level of a line, and the reasons of a failed start."""

import re
from collections.abc import Iterable

LEVELS = ("error", "warning", "info", "verbose")
_LINE = re.compile(r'^([IWEFV])\d{4} [\d:.]+ \d+ ([\w.]+):\d+\] "?(.*?)"?$')
_LETTERS = {"E": "error", "F": "error", "W": "warning", "I": "info", "V": "verbose"}
# Logged at every start on a machine without a GPU; expected, so shown at level verbose only.
_NO_GPU = re.compile(
    r"CUDA driver version is insufficient|CudaDriverHelper has not|DCGM unable|pinned (system )?memory|NVML"
)
_TABLE_OR_SIGNAL = re.compile(r"[+|]|Signal \(\d+\) received|\s*$")
_FAILED_MODEL = re.compile(r"failed to load '([^']+)' version \d+: (.*)")


def parse(line: str) -> tuple[str, str]:
    """Return level and text of a line."""
    match = _LINE.match(line)
    if match is None:  # not in the server's format: apart from tables, output of a model's process that failed
        return ("verbose" if _TABLE_OR_SIGNAL.match(line) or _NO_GPU.search(line) else "error"), line
    level = "verbose" if _NO_GPU.search(match[3]) else _LETTERS[match[1]]
    return level, match[3].replace("\\n", " ").replace('\\"', '"').strip()


def failed_models(errors: Iterable[str]) -> dict[str, str]:
    """Return the models named in the errors of a start, with the reason of each."""
    return {match[1]: match[2] for match in map(_FAILED_MODEL.search, errors) if match}
