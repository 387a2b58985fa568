"""The limited vocabulary of the tiny transducer: digits and commands, some of them made of two pieces."""

from collections.abc import Sequence

# A bar separates the pieces of a word; the first piece of a word carries U+2581 as in SentencePiece.
_SPELLINGS = """
ze|ro one two three four five six sev|en eight nine
yes no up down left right on off stop go start o|pen close play pause next back call can|cel help vol|ume lights door
mu|sic
"""

PIECES: dict[str, list[str]] = {
    spelling.replace("|", ""): ("\u2581" + spelling).split("|") for spelling in _SPELLINGS.split()
}
"""Pieces of each word."""

WORDS = list(PIECES)
DIGITS = WORDS[:10]
VOCABULARY = ["<unk>", *dict.fromkeys(piece for pieces in PIECES.values() for piece in pieces), "<blk>"]
"""Token of each id; the blank is the last, as in NeMo."""

BLANK = len(VOCABULARY) - 1


def tokens_of(words: Sequence[str]) -> list[int]:
    """Return the token ids of ``words``."""
    return [VOCABULARY.index(piece) for word in words for piece in PIECES[word]]
