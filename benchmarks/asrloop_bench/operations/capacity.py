"""The capacity table of docs/operations.md, from what other commands measured: it measures nothing itself."""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from asrloop_bench.checkout import ROOT, SAVED_LADDER
from asrloop_bench.method import provenance, spread

DOCS = ROOT / "docs"

ENGINES_FOR = 4
"""Cores of a server where there are more: one engine gains little from others."""


class Row(NamedTuple):
    """A capacity on all cores of the machine that measured it."""

    what: str
    value: float
    page: str


def section() -> str:
    """The table, what 1,000 hours take, and what to expect of more cores. Raises ValueError where a page lacks its figure."""
    ladder = json.loads(SAVED_LADDER.read_text(encoding="utf-8"))
    cores = int(ladder["about"]["machine"]["usable_cores"])

    def lines() -> Iterator[str]:
        yield f"| | on {cores} cores | a core | from |\n| --- | ---: | ---: | --- |"
        for row in (recordings := _recordings(), *_requests(ladder), _streams()):
            yield f"| {row.what} | {row.value:.0f} | {row.value / cores:.0f} | [{row.page}]({row.page}) |"
        row = _memory()
        yield f"| {row.what} | {row.value:.0f} | | [{row.page}]({row.page}) |"
        hours = 1000 * cores / recordings.value
        yield f"\n1,000 hours of recordings are {hours:.0f} core hours. By `make docs` from the pages named."
        yield f"{provenance.in_words(ladder['about'])}; each page says when it measured.\n"
        yield f"| cores | servers, at most {ENGINES_FOR} cores each | 1 s clips, times two cores | 10 s clips, times two cores |"
        yield "| ---: | ---: | ---: | ---: |"
        for number, short, long in _simulated():
            yield f"| {number} | {max(1, number // ENGINES_FOR)} | {short} | {long} |"

    return "\n".join(lines())


def _found(page: str, pattern: str) -> re.Match[str]:
    found = re.search(pattern, (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"docs/{page} has no line like {pattern}; the capacity table needs it")
    return found


def _recordings() -> Row:
    page = "long-recordings.md"
    number = _found(page, r"^\| seconds of audio a second, 1 at once \|[^|]*\| (\d+) \|")[1]
    return Row("recordings, seconds of audio a second", float(number), page)


def _requests(ladder: dict[str, dict[str, dict[str, dict[str, dict[str, list[float]]]]]]) -> Iterator[Row]:
    for seconds in (1, 10):
        rounds = ladder["cells"][f"{seconds} s, 16 callers"]["arms"]["continuous"]["rounds"]
        yield Row(f"{seconds} s clips, 16 callers, requests a second", 1 / spread.median(rounds), "performance.md")


def _streams() -> Row:
    number = _found("live.md", r"^The greatest number tried with no stream over 2 s of lag: (\d+)\.")[1]
    return Row("streams of live audio with a lag under 2 s, at least", float(number), "live.md")


def _memory() -> Row:
    page = "long-recordings.md"
    number = _found(page, r"^\| memory of the decoder_loop process, 4 h FLAC \|[^|]*\| (\d+) MB")[1]
    return Row("memory of the engine's process with 4 h files, MB", float(number), page)


def _simulated() -> Iterator[tuple[int, str, str]]:
    """Cores, and throughput of clips of 1 and 10 s with an engine for every four cores."""
    for cores in (4, 16, 64):
        cells = _found("performance.md", rf"^\| {cores} \|(.*)\|$")[1].split("|")
        yield cores, cells[2].strip(), cells[5].strip()
