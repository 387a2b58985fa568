"""report.html of a sweep: one page without anything from elsewhere, from the data of sweep.json."""

import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from asrloop_bench.page import card, document, facts, table
from asrloop_bench.svg_chart import line_chart, number, stacked_bars

Row = Mapping[str, Any]
PERCENTILES = ("p50", "p90", "p95", "p99")


def page(result: Mapping[str, Any]) -> str:
    """The whole page as HTML."""
    rows, about = result["points"], result["about"]
    closed = [row for row in rows if row["protocol"] == "grpc" and row["callers"] is not None]
    poisson = [row for row in rows if row["rate_share"] is not None]
    sections = [
        _tiles(closed),
        _section("Latency against load", "Closed loop over gRPC: each caller sends its next request after the last answer.", [
            card(f"{clips} clips", line_chart(_percentiles(own, _callers), x_title="callers", unit="ms"), "milliseconds")
            for clips, own in _by_clips(closed)
        ]),
        _section("Latency at a given arrival rate", "Open loop: requests arrive at random (Poisson).", [
            card(f"{clips} clips", line_chart(_percentiles(own, _rate), x_title="requests per second", unit="ms"), "milliseconds")
            for clips, own in _by_clips(poisson)
        ]),
        _section("Throughput and how it comes about", "Closed loop over gRPC.", [
            card("Audio transcribed", line_chart(_over_callers(closed, "audio_seconds_per_second"), x_title="callers", unit="s/s"),
                 "seconds of audio per second"),
            card("Real-time factor of a request", line_chart(_over_callers(closed, "real_time_factor"), x_title="callers", unit=""),
                 "mean latency / length of the audio"),
            card("Rows per decoder step", line_chart(_over_callers(closed, "mean_rows_per_step"), x_title="callers", unit="rows"),
                 "utterances decoded side by side"),
        ]),
        _section("Where a request's time goes", "Means by the server's metrics; the rest is transport and checks.", [
            card(f"{clips} clips", _time_shares(own), "share of the mean latency, by callers")
            for clips, own in _by_clips(closed)
        ]),
        _transports(rows),
        _section("All points", "", [_table(rows)], wide=True),
        _section("Make your own", "", [_reproduce(about)], wide=True),
    ]  # fmt: skip
    return document("asrloop under load", _subtitle(about), sections)


def _subtitle(about: Mapping[str, Any]) -> str:
    machine = about["machine"]
    kind = "A quick sweep" if about["quick"] else "A sweep"
    return (
        f"{kind} by NVIDIA's perf_analyzer on {machine['processor']}, {machine['usable_cores']} cores, {about['time']}"
    )


def _tiles(closed: list[Row]) -> str:
    tiles = []
    for clips, own in _by_clips(closed):
        alone, best = min(own, key=_load), max(own, key=lambda row: row["throughput"])
        tiles.append(
            f'<div class="tile"><b>{number(alone["p50_ms"])} ms</b>'
            f"<span>p50 of {escape(clips)} clips, {_callers_text(alone)}</span>"
            f"<small>{number(best['audio_seconds_per_second'])} s of audio per second at {_callers_text(best)}</small></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _section(title: str, text: str, cards: list[str], *, wide: bool = False) -> str:
    if not cards:
        return ""
    body = "".join(cards) if wide else f'<div class="cards">{"".join(cards)}</div>'
    return f"<section><h2>{escape(title)}</h2>{f'<p>{escape(text)}</p>' if text else ''}{body}</section>"


def _by_clips(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["clips"], []).append(row)
    return list(found.items())


def _percentiles(rows: list[Row], label: Any) -> dict[str, list[tuple[str, float]]]:
    return {name: [(label(row), row[f"{name}_ms"]) for row in sorted(rows, key=_load)] for name in PERCENTILES}


def _over_callers(rows: list[Row], column: str) -> dict[str, list[tuple[str, float]]]:
    return {
        clips: [(_callers(row), row.get(column, 0.0)) for row in sorted(own, key=_load)]
        for clips, own in _by_clips(rows)
    }


def _shares(row: Row) -> dict[str, float]:
    parts = {name: 1000 * row.get(f"mean_{name}_seconds", 0.0) for name in ("queue", "encode", "decode")}
    return {**parts, "rest": max(0.0, row["mean_ms"] - sum(parts.values()))}


def _time_shares(rows: list[Row]) -> str:
    return stacked_bars({_callers(row): _shares(row) for row in sorted(rows, key=_load)}, unit="ms")


def _load(row: Row) -> float:
    return float(row["rate"] or row["callers"])


def _callers(row: Row) -> str:
    return str(row["callers"])


def _callers_text(row: Row) -> str:
    return f"{row['callers']} caller{'s' if row['callers'] > 1 else ''}"


def _rate(row: Row) -> str:
    return number(row["rate"])


def _transports(rows: list[Row]) -> str:
    loads = {(row["clips"], row["callers"]) for row in rows if row["protocol"] != "grpc"}
    shown = [row for row in rows if (row["clips"], row["callers"]) in loads]
    shown.sort(key=lambda row: (row["clips"], row["callers"], row["protocol"]))
    names = {"grpc": "gRPC", "http": "HTTP", "shm": "gRPC and shared memory"}
    lines = [
        (
            row["clips"],
            _callers(row),
            names[row["protocol"]],
            number(row["p50_ms"]),
            number(row["p99_ms"]),
            f"{row['throughput']:.2f}",
        )
        for row in shown
    ]
    headings = ("clips", "callers", "transport", "p50 ms", "p99 ms", "requests/s")
    return _section(
        "Transports", "The same closed loops over each way in.", [table(headings, lines)] if lines else [], wide=True
    )


def _table(rows: list[Row]) -> str:
    headings = ("clips", "transport", "load", "requests", "requests/s", "audio s/s", *(f"{name} ms" for name in PERCENTILES),
                "queue ms", "encode ms", "decode ms", "rows/step", "text")  # fmt: skip
    lines = []
    for row in rows:
        load = _callers_text(row) if row["rate"] is None else f"{number(row['rate'])}/s Poisson"
        parts = _shares(row)
        lines.append((
            row["clips"], row["protocol"], load, str(row["requests"]), f"{row['throughput']:.2f}",
            number(row["audio_seconds_per_second"]),
            *(number(row[f"{name}_ms"]) for name in PERCENTILES),
            *(number(parts[name]) for name in ("queue", "encode", "decode")),
            f"{row.get('mean_rows_per_step', 0):.2f}", row["text"],
        ))  # fmt: skip
    return table(headings, lines)


def _reproduce(about: Mapping[str, Any]) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in about["notes"])
    arguments = re.sub(r" ?--output[ =]\S+", "", " ".join(about["command"][1:])).strip()
    command = f'make sweep ARGS="{arguments}"' if arguments else "make sweep"
    changed = "The tree had changes that are not in this commit. " if about["git_changed"] else ""
    return (
        f"<pre>git checkout {escape(about['git_commit'] or '(not a git checkout)')}\n{escape(command)}</pre>"
        f"<p>Needs x86-64 Linux, Python 3.11 or 3.12 and make. {changed}"
        "perf_analyzer compared every answer over plain gRPC with the text that the same clip gave alone "
        "(column text); it cannot do so over HTTP and shared memory for outputs of variable size.</p>"
        f"{f'<ul>{notes}</ul>' if notes else ''}{facts(about)}"
    )
