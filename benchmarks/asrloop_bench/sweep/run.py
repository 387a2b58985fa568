"""Runs the points of a sweep one after another, and gathers the results of perf_analyzer and the server's metrics."""

import re
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from asrloop_client import AsrClient

from asrloop_bench.method.clips import Clip
from asrloop_bench.method.target import Target
from asrloop_bench.sweep.perf_analyzer import PerfAnalyzer, PerfAnalyzerError, TextDiffers, load_arguments, write_input
from asrloop_bench.sweep.points import Point, arrivals, request_count

Row = dict[str, Any]
WARM_UP_ROUNDS = 2
# Longer than the server waits between two times of publishing what it noted.
SETTLE_SECONDS = 0.3
_MOST_LOOKS = 30
_SAMPLE = re.compile(r"^(asrloop_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass
class Sweep:
    """One run over clip sets by name, a number of seconds for each point. Holds nothing open."""

    analyzer: PerfAnalyzer
    target: Target
    clip_sets: Mapping[str, Sequence[Clip]]
    point_seconds: float
    texts: dict[str, str] = field(default_factory=dict)
    _alone: dict[str, float] = field(default_factory=dict)
    _best: dict[str, float] = field(default_factory=dict)

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Transcribe every clip alone: the expected texts, the warm-up, and a first idea of how long a request takes."""
        with AsrClient(self.target.grpc) as client:
            for name, clips in self.clip_sets.items():
                progress(f"texts and warm-up: {name}")
                for _ in range(WARM_UP_ROUNDS):
                    started = time.perf_counter()
                    for clip in clips:
                        self.texts[clip.name] = client.transcribe(clip.samples).text
                    self._alone[name] = (time.perf_counter() - started) / len(clips)

    def measure(
        self, points: Sequence[Point], until: float, progress: Callable[[str], None], rows: list[Row], notes: list[str]
    ) -> None:  # fmt: skip
        """Add the points to ``rows`` as they come, and what could not be measured to ``notes``.

        Starts no point after ``until`` on the monotonic clock.
        """
        with tempfile.TemporaryDirectory() as scratch:
            for number, point in enumerate(points):
                progress(point.name)
                if time.monotonic() > until:
                    notes.append(f"{len(points) - number} points left out: the time of the run was over")
                    break
                try:
                    rows.append(self._point(point, Path(scratch)))
                except PerfAnalyzerError as error:
                    notes.append(f"{point.name}: {error}")

    def _point(self, point: Point, scratch: Path) -> Row:
        clips = self.clip_sets[point.clips]
        best = self._best.get(point.clips, 1 / self._alone[point.clips])
        rate = None if point.rate_share is None else point.rate_share * best
        count = request_count(rate or best, self.point_seconds, point.callers or 1, len(clips), rate)
        # perf_analyzer connects, and this load meets the server, in a run that is not counted.
        self._run(point, clips, scratch, max(2 * (point.callers or 4), arrivals(rate)), rate)
        before = settled_metrics(self.target.metrics_url)
        table, checked = self._run(point, clips, scratch, count, rate)
        server = metrics_between(before, settled_metrics(self.target.metrics_url))
        throughput = table["Inferences/Second"]
        if rate is None:
            self._best[point.clips] = max(throughput, self._best.get(point.clips, 0.0))
        seconds = sum(clip.seconds for clip in clips) / len(clips)
        return {
            **asdict(point),
            "rate": rate,
            "requests": count,
            "throughput": throughput,
            "audio_seconds_per_second": throughput * seconds,
            "mean_ms": table["Avg latency"] / 1000,
            **{f"{name}_ms": table[f"{name} latency"] / 1000 for name in ("p50", "p90", "p95", "p99")},
            "real_time_factor": table["Avg latency"] / 1e6 / seconds,
            "text": checked,
            **server,
        }

    def _run(
        self, point: Point, clips: Sequence[Clip], scratch: Path, count: int, rate: float | None
    ) -> tuple[dict[str, float], str]:
        """Return perf_analyzer's table, and ``equal``, ``differs`` or ``not compared`` for the text."""
        endpoint = self.target.http if point.protocol == "http" else self.target.grpc

        def run(name: str, texts: Mapping[str, str] | None) -> dict[str, float]:
            file = scratch / name
            if not file.is_file():
                write_input(file, clips, texts)
            arguments = load_arguments(
                endpoint=endpoint, protocol=point.protocol, input_data=file, requests=count,
                concurrency=point.callers, rate=rate,
            )  # fmt: skip
            return self.analyzer.run(arguments, timeout=60 + 10 * self.point_seconds)

        if point.protocol != "grpc":
            return run(f"{point.clips}.json", None), "not compared"
        try:
            return run(f"{point.clips}-checked.json", self.texts), "equal"
        except TextDiffers:  # a finding of its own; the load is measured all the same
            return run(f"{point.clips}.json", None), "differs"


def settled_metrics(url: str) -> dict[str, float]:
    """Return the samples once nothing changes any more: under load the server publishes what it noted a little later."""
    last: dict[str, float] | None = None
    for _ in range(_MOST_LOOKS):
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - an http address of our own server
            before, last = last, parse_metrics(response.read().decode("utf-8"))
        if before == last:
            break
        time.sleep(SETTLE_SECONDS)
    return last or {}


def parse_metrics(text: str) -> dict[str, float]:
    """Return the asrloop_* samples of a Prometheus text page by ``name{labels}``."""
    return {f"{name}{{{labels}}}" if labels else name: float(value) for name, labels, value in _SAMPLE.findall(text)}


def metrics_between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what was counted in between: means of the histograms (seconds, rows), steps, and requests by outcome."""
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    found = {
        f"mean_{name}": grown[f"asrloop_{name}_sum"] / grown[f"asrloop_{name}_count"]
        for name in ("queue_seconds", "encode_seconds", "decode_seconds", "rows_per_step")
        if grown.get(f"asrloop_{name}_count")
    }
    found["steps"] = grown.get("asrloop_steps_total", 0.0)
    for name, value in grown.items():
        match = re.fullmatch(r'asrloop_requests_total\{outcome="(\w+)"\}', name)
        if match and value:
            found[f"requests_{match[1]}"] = value
    return found
