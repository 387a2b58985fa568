"""Sections of Markdown files that commands write: between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""

from pathlib import Path

RESULTS, ALL_RESULTS = "results", "all results"


def write(page: Path, section: str, name: str = RESULTS) -> None:
    """Put ``section`` between the markers of ``name`` in the file ``page``. Raises ValueError where it has none."""
    page.write_text(replaced(page.read_text(encoding="utf-8"), section, name), encoding="utf-8")


def replaced(text: str, section: str, name: str = RESULTS) -> str:
    """Return ``text`` with ``section`` between the markers of ``name``. Raises ValueError where it has none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if not text.count(begin) == text.count(end) == 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the file needs one {begin} and one {end} after it, around the section")
    return text[: text.index(begin) + len(begin)] + f"\n{section}\n" + text[text.index(end) :]
