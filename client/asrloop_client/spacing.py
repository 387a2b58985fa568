"""Scripts that write words without spaces between them, and how texts in them are joined; the servers have the same rule.

The characters decide, not a language: a Chinese sentence may name a company in Latin letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_UNSPACED = re.compile(
    "["
    "\u0e00-\u0fff"  # Thai, Lao, Tibetan
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    "\u2e80-\u2fdf\u3001-\u312f\u31a0-\u31ff\ufe30-\ufe4f\uff01-\uff9f\U0001b000-\U0001b16f"  # kana, bopomofo, CJK marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
    "]"
)


def is_unspaced(character: str) -> bool:
    """Return True for a character or mark of a script without spaces between words; False for "" and for Korean, which has them."""
    return _UNSPACED.match(character) is not None


def nearest(characters: Iterable[str]) -> str:
    """Return the first letter, digit or mark of such a script; "" where there is none."""
    return next((one for one in characters if one.isalnum() or is_unspaced(one)), "")


def joined(texts: Iterable[str]) -> str:
    """Return texts as one, without the empty ones: with a space between two, unless both sides are written without spaces."""
    whole: list[str] = []
    for text in filter(None, texts):
        is_gapless = whole and is_unspaced(nearest(reversed(whole[-1]))) and is_unspaced(nearest(text))
        whole += [text] if is_gapless or not whole else [" ", text]
    return "".join(whole)
