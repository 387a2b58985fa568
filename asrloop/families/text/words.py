"""Words of a text as spans of tokens: what stands between spaces, and, in scripts without them, tokens of whole characters."""

import unicodedata
from collections.abc import Sequence

from asrloop.engine.family import Word
from asrloop.spacing import is_unspaced, nearest

_LEADS = "\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4\u1039\u17d2"
"""Thai and Lao vowels that are written before their consonant, and Burmese and Khmer signs that stack the next one. No word ends
with one."""

_FOLLOWS = "\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3"
"""Thai and Lao vowels that are written behind their consonant: no word begins here."""


def words_between_spaces(spelled: Sequence[str]) -> list[Word]:
    """Return the words of a text that is spelled token by token: what stands between spaces.

    Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan have none: there each token of whole characters is a word, with the
    marks behind it, as in OpenAI's whisper (``split_tokens_on_unicode``).

    ``spelled`` holds what each token adds to the text; a character that takes several tokens is added by the last of them. Tokens
    without a visible character belong to the word before, a space of its own to the word behind, and so do parts of a character
    that begins a word.
    """
    found: list[tuple[int, int, str]] = []
    first: int | None = 0
    last, text, space = -1, "", ""
    behind = 0
    """Behind the last token that added text."""
    for token, added in enumerate(spelled):
        if text and added and first is not None and _parts(text, added[0]):
            found.append((first, last, space + text))
            first, text, space = behind, "", ""
        for character in added:
            if not character.isspace():
                first = token if first is None else first
                last, text = token, text + character
                continue
            if text and first is not None:
                found.append((first, last, space + text))
                first, text = None, ""
            space = " " if found else ""
            if first is None and token > last:
                first = token
        behind = token + 1 if added else behind
    if text and first is not None:
        found.append((first, last, space + text))
    starts = [*(first for first, _, _ in found), len(spelled)]
    return [Word(first, max(last + 1, starts[number + 1]), text) for number, (first, last, text) in enumerate(found)]


def _parts(text: str, character: str) -> bool:
    """Return True when ``character``, which begins a token, begins a new word behind ``text`` without a space."""
    before, kind = text[-1], unicodedata.category(character)
    if character.isspace() or before in _LEADS or character in _FOLLOWS or unicodedata.category(before) in ("Ps", "Pi"):
        return False
    if kind == "Lm" or (kind[0] in "MPSC" and kind not in ("Ps", "Pi", "Sc", "So")):  # marks belong to the word before
        return False
    return is_unspaced(character) or is_unspaced(nearest(reversed(text)))
