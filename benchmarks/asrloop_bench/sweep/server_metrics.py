"""The server's Prometheus metrics between two moments: counts, means and histograms of the asrloop_* families."""

import re
import time
import urllib.request
from collections.abc import Mapping

# Longer than the server waits between two times of publishing what it noted.
SETTLE_SECONDS = 0.3
_MOST_LOOKS = 30
_SAMPLE = re.compile(r"^(asrloop_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


def settled(url: str) -> dict[str, float]:
    """Return the samples once nothing changes any more: under load the server publishes what it noted a little later."""
    last: dict[str, float] | None = None
    for _ in range(_MOST_LOOKS):
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - an http address of our own server
            before, last = last, parse(response.read().decode("utf-8"))
        if before == last:
            break
        time.sleep(SETTLE_SECONDS)
    return last or {}


def parse(text: str) -> dict[str, float]:
    """Return the asrloop_* samples of a Prometheus text page by ``name{labels}``."""
    return {f"{name}{{{labels}}}" if labels else name: float(value) for name, labels, value in _SAMPLE.findall(text)}


def between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
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
