"""The results section of README.md, written from a saved run of the ladder."""

from collections.abc import Iterator, Mapping
from typing import Any

from asrloop_bench import spread
from asrloop_bench.ladder import RUNGS
from asrloop_bench.peers import PEERS

BEGIN, END = "<!-- results -->", "<!-- /results -->"


def replaced(readme: str, section: str) -> str:
    """``readme`` with ``section`` between the markers. Raises ValueError where it has none."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"the file needs one {BEGIN} and one {END} after it, around the results")
    return readme[: readme.index(BEGIN) + len(BEGIN)] + f"\n{section}\n" + readme[readme.index(END) :]


def section(run: Mapping[str, Any], source: str) -> str:
    """Tables in Markdown: time per request of every arm over the cells, and how much faster than the first rung that is."""
    machine, about = run["about"]["machine"], run["about"]
    return "\n".join(
        [
            f"Measured by `make bench` on {machine['processor']}, {machine['usable_cores']} cores, {about['time'][:10]}; all",
            "arms interleaved in one run against one server, each with all cores. Milliseconds per request (median; with several",
            f"callers: elapsed time / requests), and how many times faster than the first row. Data: `{source}`.",
            "",
            *_table(run["cells"]),
        ]
    )


def _table(cells: Mapping[str, Any]) -> Iterator[str]:
    yield "| | " + " | ".join(cells) + " |"
    yield "| --- |" + " --- |" * len(cells)
    names = {name: f"{number}. {text}" for number, (name, text) in enumerate(RUNGS.items(), 1)} | PEERS
    present = [name for name in names if any(name in cell["arms"] for cell in cells.values())]
    for name in present:
        yield f"| {names[name]} | " + " | ".join(_cell(cell["arms"], name) for cell in cells.values()) + " |"


def _cell(arms: Mapping[str, Any], name: str) -> str:
    if name not in arms:
        return ""
    first = next(iter(arms.values()))
    gain = spread.ratio(first["rounds"], arms[name]["rounds"]).estimate
    milliseconds = 1000 * spread.median(arms[name]["rounds"])
    return f"{milliseconds:.0f}" if arms[name] is first else f"{milliseconds:.0f} ({gain:.1f}x)"
