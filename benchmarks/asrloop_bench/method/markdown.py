"""Markdown that commands write: tables, and sections of files between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""

from collections.abc import Iterable, Sequence
from pathlib import Path

RESULTS, ALL_RESULTS = "results", "all results"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], numbers_from: int | None = None) -> str:
    """Return a table; columns from ``numbers_from`` on are aligned to the right."""
    right = len(heads) if numbers_from is None else numbers_from
    rule = ["---" if column < right else "---:" for column in range(len(heads))]
    return "\n".join(_line(cells) for cells in (heads, rule, *rows))


def _line(cells: Sequence[object]) -> str:
    return "".join(f"| {cell} " if str(cell) else "| " for cell in cells) + "|"


def write(page: Path, section: str, name: str = RESULTS) -> None:
    """Put ``section`` between the markers of ``name`` in the file ``page``. Raises ValueError where it has none."""
    page.write_text(replaced(page.read_text(encoding="utf-8"), section, name), encoding="utf-8")


def replaced(text: str, section: str, name: str = RESULTS) -> str:
    """Return ``text`` with ``section`` between the markers of ``name``. Raises ValueError where it has none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if not text.count(begin) == text.count(end) == 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the file needs one {begin} and one {end} after it, around the section")
    return text[: text.index(begin) + len(begin)] + f"\n{section}\n" + text[text.index(end) :]
