"""Names and words that a caller expects, as the tokens that may spell them: in any casing, cut into pieces in any way."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.spacing import is_unspaced


class Place(NamedTuple):
    """How far a term has been spelled."""

    form: bytes
    at: int

    @property
    def is_end(self) -> bool:
        return self.at == len(self.form)


Places = frozenset[Place]


class Next(NamedTuple):
    """Tokens that may come next, and how far each would spell which terms."""

    tokens: NDArray[np.int64]
    places: Mapping[int, Places]


NONE = Next(np.zeros(0, np.int64), {})


class Pieces:
    """The pieces of a vocabulary by their text, UTF-8, with a space before words."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        # Of equal texts the later one: byte pieces stand before the letters that decoders use.
        self._token = {piece: token for token, piece in enumerate(pieces) if piece}
        self._longest = max(map(len, self._token), default=0)
        self._bytes = bytes(piece[0] for piece in self._token if len(piece) == 1)

    def beginnings(self, text: bytes) -> Iterable[tuple[int, int]]:
        """Yield each token that ``text`` may begin with, and its length."""
        for length in range(1, min(self._longest, len(text)) + 1):
            token = self._token.get(text[:length])
            if token is not None:
                yield token, length

    def spells(self, text: bytes) -> bool:
        """Return True when pieces make ``text``."""
        if not text.translate(None, self._bytes):
            return True
        reached = {0}
        for at in range(len(text)):
            if at in reached:
                reached |= {at + length for _, length in self.beginnings(text[at:])}
        return len(text) in reached


class Terms:
    """The terms of a request. Shared by its rows; keeps what it has found."""

    def __init__(self, terms: Iterable[str], pieces: Pieces) -> None:
        self._pieces = pieces
        written = {form.encode() for term in terms for form in casings(term)}
        forms = sorted(form for form in written if pieces.spells(b" " + form))
        self.behind_space = self._next(Place(b" " + form, 0) for form in forms)
        """What may begin a term anywhere."""
        without = self._next(Place(form, 0) for form in forms)  # by other tokens: none of these begins with a space
        self.anywhere = Next(
            np.concatenate((self.behind_space.tokens, without.tokens)), {**self.behind_space.places, **without.places}
        )
        """The same where a word may begin without a space: at the start, and behind a mark."""
        self._known: dict[Places, Next] = {frozenset(): NONE}

    def after(self, places: Places) -> Next:
        """Return what goes on from ``places``."""
        if places not in self._known:
            self._known[places] = self._next(places)
        return self._known[places]

    def _next(self, places: Iterable[Place]) -> Next:
        found: dict[int, set[Place]] = {}
        for form, at in places:
            for token, length in self._pieces.beginnings(form[at:]):
                found.setdefault(token, set()).add(Place(form, at + length))
        return Next(np.array(sorted(found), np.int64), {token: frozenset(each) for token, each in found.items()})


class TermsOf:
    """Makes the terms of requests, for the vocabulary of one model; keeps those of the latest."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        """``pieces`` are the texts of all tokens, with a space before words, empty for those that steer the model."""
        self._pieces = Pieces(pieces)
        self._made = lru_cache(64)(partial(Terms, pieces=self._pieces))
        texts = [piece.decode("utf-8", "replace") for piece in pieces]
        self.edges = (
            np.array([_is_in_word(text[:1]) for text in texts]),
            np.array([_is_in_word(text[-1:]) for text in texts]),
            np.array([text != "" for text in texts]),
        )
        """For each token, if it begins within a word where none ended before, if a word goes on behind it without a space, and if
        it is any text."""

    def __call__(self, terms: tuple[str, ...]) -> Terms:
        return self._made(terms)

    def can_write(self, term: str) -> bool:
        """Return True when tokens make ``term``."""
        return self._pieces.spells(f" {term}".encode())


def _is_in_word(character: str) -> bool:
    """True for letters and digits of scripts with spaces between words. In others a term may begin and end anywhere."""
    return character.isalnum() and not is_unspaced(character)


def casings(term: str) -> set[str]:
    """Return a term as it may be written: as given, in lower and upper case, and with a capital at its start or at each word's.

    Apostrophes also as on a typewriter, as models write them.
    """
    cased = {term, term.lower(), term.upper(), term[:1].upper() + term[1:], term.title()}
    return cased | {each.replace("\u2019", "'") for each in cased}
