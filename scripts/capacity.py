"""The capacity table of docs/operations.md, from the results of other commands: it measures nothing itself."""

import json
import re
from collections.abc import Iterator

from asrloop_bench.checkout import ROOT, SAVED_LADDER
from asrloop_bench.method import provenance, spread

DOCS = ROOT / "docs"
AUDIO_SECONDS = ("long-recordings.md", r"^\| seconds of audio a second, 1 at once \|[^|]*\| (\d+) \|")
STREAMS = ("live.md", r"^The greatest number tried with no stream over 2 s of lag: (\d+)\.")
MEGABYTES = ("long-recordings.md", r"^\| memory of the decoder_loop process, 4 h FLAC \|[^|]*\| (\d+) MB")


def section() -> str:
    """Return the table, and the time of 1,000 hours. Raises ValueError where a page lacks its figure."""
    ladder = json.loads(SAVED_LADDER.read_text(encoding="utf-8"))
    cores = int(ladder["about"]["machine"]["usable_cores"])
    audio_seconds = float(_found(*AUDIO_SECONDS))

    def requests(seconds: int) -> float:
        return 1 / spread.median(ladder["cells"][f"{seconds} s, 16 callers"]["arms"]["continuous"]["rounds"])

    def lines() -> Iterator[str]:
        yield f"| | on {cores} cores | a core | from |\n| --- | ---: | ---: | --- |"
        for what, value, page in (
            ("recordings, seconds of audio a second", audio_seconds, AUDIO_SECONDS[0]),
            ("1 s clips, 16 callers, requests a second", requests(1), "performance.md"),
            ("10 s clips, 16 callers, requests a second", requests(10), "performance.md"),
            ("streams of live audio with a lag under 2 s, at least", float(_found(*STREAMS)), STREAMS[0]),
        ):
            yield f"| {what} | {value:.0f} | {value / cores:.0f} | [{page}]({page}) |"
        page = MEGABYTES[0]
        yield f"| memory of the engine's process with 4 h files, MB | {_found(*MEGABYTES)} | | [{page}]({page}) |"
        hours = 1000 * cores / audio_seconds
        yield f"\n1,000 hours of recordings are {hours:.0f} core hours. By `make docs` from the pages named."
        yield f"{provenance.in_words(ladder['about'])}; each page says when it measured."

    return "\n".join(lines())


def _found(page: str, pattern: str) -> str:
    found = re.search(pattern, (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"docs/{page} has no line like {pattern}; the capacity table needs it")
    return found[1]
