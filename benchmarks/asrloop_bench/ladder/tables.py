"""A run of the ladder as tables: for the terminal, and in Markdown for the README and the page of all results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from asrloop_bench.figures.accuracy import normalised
from asrloop_bench.ladder.peers import PEERS
from asrloop_bench.ladder.rungs import RUNGS
from asrloop_bench.method import provenance, spread

NAMES = {name: f"{number}. {text}" for number, (name, text) in enumerate(RUNGS.items(), 1)} | PEERS

BACKEND = (
    "Rows 1 to 3 reach the vendor's graphs\nthrough this project's Python ONNX backend; "
    "a stock Triton has one in C++, which may be faster."
)
SHOWN = {
    "1 s, 1 caller": "1 s of speech, alone",
    "10 s, 1 caller": "10 s, alone",
    "10 s, 16 callers": "10 s, 16 callers at once",
}
"""Cells of the README's table, and what heads their columns."""


def for_terminal(cells: Mapping[str, Any]) -> Iterator[Table]:
    """A table a cell: medians, spread, and ratios to the first arm (with 95 % intervals) and to the arm before."""
    headings = ("arm", "ms/request", "spread", "p50 ms", "p99 ms", "x first", "x before", "text")
    for cell, result in cells.items():
        made = Table(*headings, title=cell, title_justify="left")
        first = before = next(iter(result["arms"].values()))
        for name, arm in result["arms"].items():
            gain = spread.ratio(first["rounds"], arm["rounds"])
            made.add_row(
                NAMES.get(name, name),
                f"{1000 * spread.median(arm['rounds']):.1f}",
                f"±{spread.half_range(arm['rounds']):.0%}",
                f"{1000 * spread.median(arm['latencies']):.1f}",
                f"{1000 * spread.percentile(arm['latencies'], 99):.1f}",
                str(gain),
                str(spread.ratio(before["rounds"], arm["rounds"])),
                agreement(set(arm["texts"]), set(first["texts"])),
            )
            before = arm
        made.caption = f"{len(first['rounds'])} rounds"
        yield made


def agreement(texts: set[str], expected: set[str]) -> str:
    """The project's graphs may decide a comma otherwise than the vendor's; another word would be a finding."""
    if texts == expected:
        return "same"
    return "same words" if set(map(normalised, texts)) == set(map(normalised, expected)) else "differs"


def short_section(run: Mapping[str, Any], source: str) -> str:
    """The README's results: the cells of SHOWN. Raises ValueError where the run has none of them."""
    cells = {heading: run["cells"][cell] for cell, heading in SHOWN.items() if cell in run["cells"]}
    if not cells:
        raise ValueError(f"{source}: none of the cells {', '.join(SHOWN)}; give a longer run")
    return "\n".join(
        [
            "Milliseconds per request, and how many times faster than the first row. With 16 callers: elapsed time over requests,",
            "the inverse of throughput. All ways are measured in turns in one run, by `make bench`, on",
            f"{provenance.in_words(run['about'])}. {BACKEND}",
            "",
            *_rows(cells),
        ]
    )


def full_section(run: Mapping[str, Any], source: str) -> str:
    """All cells of the run."""
    return "\n".join(
        [
            "Milliseconds per request (median; with several callers: elapsed time over requests), and how many times faster than",
            f"the first row. Measured by `make bench` on {provenance.in_words(run['about'])}. Data: `{source}`. {BACKEND}",
            "",
            *_rows(run["cells"]),
        ]
    )


def _rows(cells: Mapping[str, Any]) -> Iterator[str]:
    yield "| | " + " | ".join(cells) + " |"
    yield "| --- |" + " ---: |" * len(cells)
    for name, text in NAMES.items():
        if any(name in cell["arms"] for cell in cells.values()):
            yield f"| {text} | " + " | ".join(_entry(cell["arms"], name) for cell in cells.values()) + " |"


def _entry(arms: Mapping[str, Mapping[str, Sequence[float]]], name: str) -> str:
    if name not in arms:
        return ""
    first = next(iter(arms))
    milliseconds = 1000 * spread.median(arms[name]["rounds"])
    if name == first:
        return f"{milliseconds:.0f}"
    gain = spread.ratio(arms[first]["rounds"], arms[name]["rounds"])
    return f"{milliseconds:.0f} ({'too few rounds' if gain.is_too_few else f'{gain.estimate:.1f}x'})"
