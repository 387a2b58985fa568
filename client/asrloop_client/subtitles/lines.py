"""Two lines of a subtitle: how many words they hold, and where the first one ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_SENTENCE_ENDS, _CLAUSE_ENDS = tuple(".?!\u2026"), tuple(",;:")
_CLOSING = "\"')]\u201d\u00bb"
"""Marks that may follow those."""


def break_cost(text: str) -> float:
    """Return the cost, 0..1, of a break behind the word `text`."""
    marked = text.rstrip(_CLOSING)
    return 0.0 if marked.endswith(_SENTENCE_ENDS) else 0.5 if marked.endswith(_CLAUSE_ENDS) else 1.0


def filled(texts: Sequence[str], begin: int, width: int) -> Iterator[tuple[int, float]]:
    """Yield each end of words from `begin` on that fit into two lines of `width` characters, and the share that stays empty.

    A word that is wider stands alone.
    """
    lines, used, total = 1, -1, 0
    for at in range(begin, len(texts)):
        length = len(texts[at])
        if at > begin and used + 1 + length > width:
            lines, used = lines + 1, -1
        if at > begin and (lines > 2 or length > width):
            return
        used, total = used + 1 + length, total + 1 + length
        yield at + 1, max(0.0, 1 - total / (2 * width))
        if length > width:
            return


def broken(texts: Sequence[str], width: int) -> list[str]:
    """Return words that `filled` says fit as one line or two: broken behind a mark, in the middle, or between the two."""
    whole = " ".join(texts)
    if len(whole) <= width or len(texts) == 1:
        return [whole]
    pairs = [(" ".join(texts[:at]), " ".join(texts[at:])) for at in range(1, len(texts))]
    fitting = [pair for pair in pairs if max(map(len, pair)) <= width]
    first, second = min(fitting, key=lambda two: break_cost(two[0]) + abs(len(two[0]) - len(two[1])) / width)
    return [first, second]
