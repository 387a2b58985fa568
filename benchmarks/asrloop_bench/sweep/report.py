"""report.html of a sweep: one page without anything from elsewhere, from the data of sweep.json."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from asrloop_bench.method import provenance
from asrloop_bench.sweep.charts import Series, lines, number

Row = Mapping[str, Any]
PERCENTILES = ("p50", "p90", "p95", "p99")
OVER_CALLERS = {"audio_seconds_per_second": "s/s", "real_time_factor": "", "mean_rows_per_step": "rows"}
"""Columns of a row that are drawn over the number of callers, with their units."""


def page(result: Mapping[str, Any]) -> str:
    rows, about = result["points"], result["about"]
    closed = by_clips(row for row in rows if row["protocol"] == "grpc" and row["callers"] is not None)
    poisson = by_clips(row for row in rows if row["rate_share"] is not None)
    other_ways = {(row["clips"], row["callers"]) for row in rows if row["protocol"] != "grpc"}
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template.filters |= {"number": number}
    return template.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8")).render(
        about=about,
        machine=provenance.in_words(about),
        arguments=re.sub(r" ?--output[ =]\S+", "", " ".join(about["command"][1:])).strip(),
        rows=rows,
        tiles=[(clips, min(own, key=load), max(own, key=lambda row: float(row["throughput"]))) for clips, own in closed.items()],
        percentiles=PERCENTILES,
        against_callers={clips: lines(percentiles(own, "callers"), "callers", "ms") for clips, own in closed.items()},
        against_rate={clips: lines(percentiles(own, "rate"), "requests per second", "ms") for clips, own in poisson.items()},
        over_callers={
            column: lines({clips: points(own, column, "callers") for clips, own in closed.items()}, "callers", unit)
            for column, unit in OVER_CALLERS.items()
        },
        shares={
            clips: {row["callers"]: shares(row) for row in sorted(own, key=load)}
            for clips, own in closed.items()
        },
        transports=[row for row in rows if (row["clips"], row["callers"]) in other_ways],
        shares_of=shares,
        is_founded=is_founded,
    )  # fmt: skip


def by_clips(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["clips"], []).append(row)
    return found


def percentiles(rows: list[Row], label: str) -> Series:
    """Return the latency percentiles in milliseconds, a line each."""
    return {name: points([row for row in rows if is_founded(row, name)], f"{name}_ms", label) for name in PERCENTILES}


def is_founded(row: Row, percentile: str) -> bool:
    """Return True when the point has enough requests for this percentile: at least one is expected to lie above it."""
    return float(row["requests"]) * (100 - float(percentile[1:])) >= 100


def points(rows: list[Row], column: str, label: str) -> list[tuple[str, float]]:
    """Return one line of a chart, from the lowest load to the highest; ``label`` is the column ``callers`` or ``rate``."""
    return [(number(row[label]), row.get(column, 0.0)) for row in sorted(rows, key=load)]


def shares(row: Row) -> dict[str, float]:
    """Return the parts of a request's time, in milliseconds."""
    parts = {name: 1000 * row.get(f"mean_{name}_seconds", 0.0) for name in ("queue", "encode", "decode")}
    return {**parts, "rest": max(0.0, row["mean_ms"] - sum(parts.values()))}


def load(row: Row) -> float:
    return float(row["rate"] or row["callers"])
