"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], numbers_from: int | None = None) -> str:
    """Return a table; columns from ``numbers_from`` on are aligned to the right."""
    right = len(heads) if numbers_from is None else numbers_from
    rule = ["---" if column < right else "---:" for column in range(len(heads))]
    return "\n".join(_line(cells) for cells in (heads, rule, *rows))


def _line(cells: Sequence[object]) -> str:
    return "".join(f"| {cell} " if str(cell) else "| " for cell in cells) + "|"
