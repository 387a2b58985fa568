"""Text of SentencePiece pieces that put a space before every word, also before one that begins with a mark."""

import re
from collections.abc import Sequence
from itertools import accumulate

_NO_SPACE = re.compile(r"\A\s|\s\B")
"""Needless spaces: at the start of a text, before a mark such as a comma, at the end."""


def spelled(pieces: Sequence[str]) -> list[str]:
    """Return ``pieces`` without needless spaces; joined and stripped they are the text."""
    dropped = {match.start() for match in _NO_SPACE.finditer("".join(pieces))}
    starts = accumulate(map(len, pieces), initial=0)
    return [
        "".join(character for at, character in enumerate(piece, start) if at not in dropped)
        for piece, start in zip(pieces, starts, strict=False)
    ]
