"""Tables of a run of the ladder: for the terminal, and in Markdown for the README and the page of all results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from asrloop_bench.figures.accuracy import normalised
from asrloop_bench.ladder.rungs import PEERS, RUNGS
from asrloop_bench.method import markdown, provenance, spread

NAMES = {name: f"{number}. {arm.row}" for number, (name, arm) in enumerate(RUNGS.items(), 1)}
NAMES |= {name: arm.row for name, arm in PEERS.items()}

BACKEND = (
    "Rows 1 to 3 call the vendor's\ngraphs through this project's ONNX backend in Python; a stock Triton has one in C++, "
    "about which they say nothing."
)
SHOWN = {
    "1 s, 1 caller": "1 s of speech, alone",
    "10 s, 1 caller": "10 s, alone",
    "1 s, 16 callers": "1 s, 16 callers at once",
    "10 s, 16 callers": "10 s, 16 callers at once",
}
"""Cells of the README's table, and what heads their columns."""


def for_terminal(cells: Mapping[str, Any]) -> Iterator[Table]:
    """Yield a table a cell: medians, spread, and ratios to the first arm (with 95 % intervals) and to the arm before."""
    headings = ("arm", "layout", "ms/request", "spread", "p50 ms", "p99 ms", "x first", "x before", "text")
    for cell, result in cells.items():
        made = Table(*headings, title=cell, title_justify="left")
        first = before = next(iter(result["arms"].values()))
        for name, arm in result["arms"].items():
            values = (spread.median(arm["rounds"]), *(spread.percentile(arm["latencies"], share) for share in (50, 99)))
            taken, p50, p99 = (f"{1000 * value:.1f}" for value in values)
            gains = [str(spread.ratio(other["rounds"], arm["rounds"])) for other in (first, before)]
            text, before = agreement(set(arm["texts"]), set(first["texts"])), arm
            around = f"±{spread.half_range(arm['rounds']):.0%}"
            made.add_row(NAMES.get(name, name), arm["layout"], taken, around, p50, p99, *gains, text)
        made.caption = f"{len(first['rounds'])} rounds, {len(first['latencies'])} requests and more an arm"
        yield made


def agreement(texts: set[str], expected: set[str]) -> str:
    """Compare texts; a comma may differ between the project's graphs and the vendor's, a word must not."""
    if texts == expected:
        return "same"
    return "same words" if set(map(normalised, texts)) == set(map(normalised, expected)) else "differs"


def short_section(run: Mapping[str, Any], source: str) -> str:
    """Return the README's results: the cells of SHOWN. Raises ValueError where the run has none of them."""
    cells = {heading: run["cells"][cell] for cell, heading in SHOWN.items() if cell in run["cells"]}
    if not cells:
        raise ValueError(f"{source}: none of the cells {', '.join(SHOWN)}; give a longer run")
    return "\n".join(
        [
            "Milliseconds per request, and how many times faster than the first row. With 16 callers: the inverse of throughput.",
            "Every way has the thread layout that suits it best. All are measured in turns in one run, by `make bench`, on",
            f"{provenance.in_words(run['about'])}. {BACKEND}",
            "",
            _table(cells, with_interval=False),
        ]
    )


def full_section(run: Mapping[str, Any], source: str) -> str:
    rounds = sorted({len(arm["rounds"]) for cell in run["cells"].values() for arm in cell["arms"].values()})
    return "\n".join(
        [
            "Milliseconds per request (median of the rounds; with several callers the inverse of throughput), and how many times",
            "faster than the first row, with an interval of 95 %.",
            "",
            _table(run["cells"], with_interval=True, errors=run.get("word_errors", {})),
            "",
            f"`make bench`, {' or '.join(map(str, rounds))} rounds: {provenance.in_full(run['about'], run['loads'])}. "
            f"Data: `{source}`.",
            *_against(run["cells"], "fastapi", "FastAPI"),
            *_against(run["cells"], "faster_whisper", "faster-whisper"),
        ]
    )


def _against(cells: Mapping[str, Any], peer: str, name: str) -> Iterator[str]:
    found = [
        f"{cell} {spread.ratio(result['arms'][peer]['rounds'], result['arms']['continuous']['rounds'])}"
        for cell, result in cells.items()
        if {peer, "continuous"} <= result["arms"].keys()
    ]
    if found:
        yield f"\nHow many times faster `asr_ensemble` is than {name}: {'; '.join(found)}."


def _table(cells: Mapping[str, Any], with_interval: bool, errors: Mapping[str, float] | None = None) -> str:
    """Return a row for each arm; with the word errors where they were measured."""
    measured = {name for cell in cells.values() for name in cell["arms"]}
    rows = [
        [
            text,
            *(_entry(cell["arms"], name, with_interval) for cell in cells.values()),
            *([f"{errors[name]:.1%}" if name in errors else ""] if errors else []),
        ]
        for name, text in NAMES.items()
        if name in measured
    ]
    return markdown.table(["", *cells, *(["word errors"] if errors else [])], rows, numbers_from=1)


def _entry(arms: Mapping[str, Mapping[str, Sequence[float]]], name: str, with_interval: bool) -> str:
    if name not in arms:
        return ""
    first = next(iter(arms))
    milliseconds = 1000 * spread.median(arms[name]["rounds"])
    shown = f"{milliseconds:.0f}" if milliseconds >= 20 else f"{milliseconds:.1f}"
    if name == first:
        return shown
    gain = spread.ratio(arms[first]["rounds"], arms[name]["rounds"])
    if gain.is_too_few:
        return f"{shown} (too few rounds)"
    if with_interval and gain.low is not None:
        return f"{shown} ({gain.estimate:.1f}x, {gain.low:.1f}-{gain.high:.1f})"
    return f"{shown} ({gain.estimate:.1f}x)"
