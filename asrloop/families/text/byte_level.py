"""Byte-level BPE as of GPT-2 (Radford et al. 2019): its way to write bytes, and text to tokens without a list of merges."""

import re
from collections.abc import Sequence
from itertools import pairwise

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTE_OF = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + at): byte for at, byte in enumerate(_OTHERS)}
"""Each byte is written as one character that can be seen."""

_PARTS = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
"""Tokens never reach over the ends of these parts of a text."""

LONGEST_PART = 128
"""Bytes of a part; a longer one is cut, for joining takes time by its square."""


def piece_bytes(name: str) -> bytes:
    """Return the bytes that a token is written for; a name that is not of this kind stands for its own UTF-8."""
    try:
        return bytes(_BYTE_OF[character] for character in name)
    except KeyError:
        return name.encode()


class ByteLevelEncoder:
    """Turns text into the tokens that the model was trained with: of two neighbours those that make the earliest token are
    joined first, as tokens are numbered in the order in which their merges were learnt. Control tokens never come out: text that
    looks like one is text."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """``pieces`` are the texts of all tokens, empty for those that steer the model."""
        self._token: dict[bytes, int] = {}
        for token, piece in enumerate(pieces):
            if piece:
                self._token.setdefault(piece, token)

    def __call__(self, text: str) -> list[int]:
        parts = [part.encode() for part in _PARTS.findall(text)]
        pieces = [part[at : at + LONGEST_PART] for part in parts for at in range(0, len(part), LONGEST_PART)]
        return [token for piece in pieces for token in self._part(piece)]

    def _part(self, text: bytes) -> list[int]:
        pieces = [bytes([byte]) for byte in text]
        while len(pieces) > 1:
            ranks = [self._token.get(first + second, len(self._token)) for first, second in pairwise(pieces)]
            least = min(ranks)
            if least == len(self._token):
                break
            at = ranks.index(least)
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        return [self._token[piece] for piece in pieces if piece in self._token]
