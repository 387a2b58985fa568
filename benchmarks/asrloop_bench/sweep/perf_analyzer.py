"""NVIDIA's perf_analyzer: fetched, given clips as requests, run for one point of load, its CSV read."""

import base64
import csv
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asrloop.wheels import TRITONSERVER, PinnedWheel
from asrloop_bench.method.clips import Clip

# The perf-analyzer wheel needs glibc 2.38; the binary in this one runs from 2.17 on.
TRITONCLIENT = PinnedWheel(
    name="tritonclient",
    version="2.50.0",
    sha256="421fbb69ae6ab8cdb2c35b82134fcef2fe11e7af7718b1fcbc53335ab9bfe889",
    megabytes=14,
    members=("tritonclient-2.50.0.data/data/bin/perf_analyzer", "tritonclient-2.50.0.dist-info/"),
)
# Libraries that binary links; the tritonserver wheel has them under names with a hash.
_LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
_OUTPUT_BYTES = 16_384


class PerfAnalyzerError(RuntimeError):
    """perf_analyzer could not be run, or a run of it failed; the message has its reason."""


class TextDiffers(PerfAnalyzerError):
    """The server answered with other text than the input file expects."""


class PerfAnalyzer(NamedTuple):
    binary: Path
    environment: Mapping[str, str]
    version: str

    def run(self, arguments: Sequence[str], timeout: float) -> dict[str, float]:
        """Run one point; returns the columns of its CSV. Raises PerfAnalyzerError."""
        with tempfile.TemporaryDirectory() as scratch:
            table = Path(scratch, "report.csv")
            try:
                result = subprocess.run(
                    [str(self.binary), *arguments, "-f", str(table), "--verbose-csv"],
                    env={**os.environ, **self.environment},
                    check=False, timeout=timeout, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise PerfAnalyzerError(f"perf_analyzer did not end within {timeout:.0f} s") from None
            if "match expected output" in result.stdout or "match expected size" in result.stdout:
                raise TextDiffers("an answer differs from the expected text")
            if result.returncode or not table.is_file():
                raise PerfAnalyzerError(f"perf_analyzer ended with code {result.returncode}: {_reason(result.stdout)}")
            return read_table(table.read_text(encoding="utf-8"))


def fetched(cache: Path) -> PerfAnalyzer:
    """Return the pinned wheel's binary, fetched where it is missing."""
    binary = TRITONCLIENT.fetch(cache) / "tritonclient-2.50.0.data" / "data" / "bin" / "perf_analyzer"
    libraries, folder = TRITONSERVER.fetch(cache) / "nvidia_pytriton.libs", cache / "perf-analyzer-libraries"
    folder.mkdir(exist_ok=True)
    for name, pattern in _LIBRARIES.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(next(libraries.glob(pattern)))
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")]))
    return PerfAnalyzer(binary, {"LD_LIBRARY_PATH": paths}, f"of the wheel {TRITONCLIENT.name} {TRITONCLIENT.version}")


def load_arguments(
    *, endpoint: str, protocol: str, input_data: Path, requests: int, concurrency: int | None, rate: float | None
) -> list[str]:
    """Return the arguments of one point of asr_ensemble: a closed loop, or Poisson arrivals at ``rate`` per second.

    ``protocol`` is ``grpc``, ``http`` or ``shm`` (gRPC with tensors in system shared memory).
    """
    arguments = ["-m", "asr_ensemble", "-u", endpoint, "-i", "http" if protocol == "http" else "grpc"]
    arguments += ["--input-data", str(input_data), "--request-count", str(requests)]
    if protocol == "shm":
        arguments += ["--shared-memory", "system", "--output-shared-memory-size", str(_OUTPUT_BYTES)]
    if concurrency is not None:
        return [*arguments, "--concurrency-range", str(concurrency)]
    arguments += ["--request-rate-range", f"{rate:.4f}", "--request-distribution", "poisson"]
    return [*arguments, "--max-threads", "64"]


def write_input(path: Path, clips: Sequence[Clip], texts: Mapping[str, str] | None) -> None:
    """Write ``path`` with one request a clip, in order. ``texts`` has the expected text by clip name.

    perf_analyzer compares texts over plain gRPC only: over HTTP it insists on every output, which it cannot take when
    an output is of variable size, and in shared memory it compares the whole region. Leave ``texts`` out for those.
    """
    document: dict[str, Any] = {"data": [_request(clip) for clip in clips]}
    if texts is not None:
        document["validation_data"] = [{"TRANSCRIPTS": {"content": [texts[clip.name]], "shape": [1]}} for clip in clips]
    path.write_text(json.dumps(document), encoding="utf-8")


def _request(clip: Clip) -> dict[str, Any]:
    # Shared memory wants the optional input as well.
    encoded = base64.b64encode(clip.samples.tobytes()).decode("ascii")
    return {
        "WAV": {"content": {"b64": encoded}, "shape": [len(clip.samples)]},
        "WAV_LENS": {"content": [len(clip.samples)], "shape": [1]},
    }


def read_table(text: str) -> dict[str, float]:
    """Return the one row of perf_analyzer's CSV as numbers; columns without one are left out."""
    rows = list(csv.DictReader(text.splitlines()))
    if not rows:
        raise PerfAnalyzerError("perf_analyzer wrote no row of results")
    number = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
    return {name: float(value) for name, value in rows[-1].items() if name and value and number.fullmatch(value)}


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "; ".join([line for line in lines if re.search(r"error|fail", line, re.IGNORECASE)][:3] or lines[-3:])
