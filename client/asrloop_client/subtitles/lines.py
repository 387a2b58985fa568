"""Two lines of a subtitle: how many words they hold, and where the first one ends."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

_SENTENCE_ENDS, _CLAUSE_ENDS = tuple(".?!\u2026\u3002\uff01\uff1f"), tuple(",;:\u3001\uff0c\uff1a\uff1b")
_CLOSING = "\"')]\u201d\u00bb\u300d\u300f\uff09"
"""Marks that may follow those."""


def break_cost(text: str) -> float:
    """Return the cost, 0..1, of a break behind the word `text`."""
    marked = text.rstrip(_CLOSING)
    return 0.0 if marked.endswith(_SENTENCE_ENDS) else 0.5 if marked.endswith(_CLAUSE_ENDS) else 1.0


def columns(text: str) -> int:
    """Return how many columns a text takes: two for Chinese, Japanese and Korean ones, none for marks over or under another."""
    return sum(_column(character) for character in text)


def _column(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def filled(texts: Sequence[str], begin: int, width: int, label: str = "") -> Iterator[tuple[int, float]]:
    """Yield each end of words from `begin` on that fit into two lines of `width` columns, and the share that stays empty.

    `texts` have the spaces before words; `label` stands before the first. A word that is wider stands alone.
    """
    lines, used, total = 1, 0, 1
    for at in range(begin, len(texts)):
        text = label + texts[at].lstrip() if at == begin else texts[at]
        length, more = columns(text.lstrip()), columns(text)
        if at > begin and used + more > width:
            lines, used = lines + 1, 0
        if at > begin and (lines > 2 or length > width):
            return
        used, total = used + (more if used else length), total + (more if at > begin else length)
        yield at + 1, max(0.0, 1 - total / (2 * width))
        if length > width:
            return


def broken(texts: Sequence[str], width: int) -> list[str]:
    """Return words that `filled` says fit as one line or two: broken behind a mark, in the middle, or between the two."""
    whole = "".join(texts).strip()
    if columns(whole) <= width or len(texts) == 1:
        return [whole]
    pairs = [("".join(texts[:at]).strip(), "".join(texts[at:]).strip()) for at in range(1, len(texts))]
    fitting = [pair for pair in pairs if max(map(columns, pair)) <= width]
    first, second = min(fitting, key=lambda two: break_cost(two[0]) + abs(columns(two[0]) - columns(two[1])) / width)
    return [first, second]
