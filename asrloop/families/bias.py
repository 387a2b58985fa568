"""Prefers the terms that a caller expects while the tokens of one row are decided: the most probable each time, but for a term.

A term may be less probable than what the model would say, by so many nats in all along its tokens. It is tried: when it turns out
to cost more, or to go on into another word, what was said of it is taken back, and the model's own token stands. So a term is not
made up because its first letters fit. Where the model says nothing more no term begins.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.families.text.terms import NONE, Next, Places, Terms

MOST_TRIES = 24
"""Terms that are tried in vain in one row, so that no list of terms makes it slow."""


class Chosen(NamedTuple):
    """The next token of a row."""

    token: int
    log_prob: float
    """That of the model."""

    taken_back: int = 0
    """Tokens said last that are taken back before."""


class _Trial:
    """A term that is being tried instead of the model's own token."""

    def __init__(self, own: int, log_prob: float, cost: float, left: Places) -> None:
        self.own, self.log_prob = own, log_prob
        self.cost = cost
        """Nats by which the model's own tokens were more probable."""
        self.left = left
        """Places that were half said before."""
        self.said = 1
        self.is_whole = False
        """True when the term is said, and only what follows it may show that it was another word."""


class Bias:
    """The state of one row."""

    def __init__(
        self,
        terms: Terms,
        boost: float,
        continues_word: NDArray[np.bool_],
        ends_word: NDArray[np.bool_],
        is_text: NDArray[np.bool_],
    ) -> None:
        """``continues_word`` says of each token if it begins with a letter or digit, ``ends_word`` if it ends with one; not where
        words have no spaces between them. ``is_text`` says if it is any text. See ``TermsOf.edges``."""
        self._terms = terms
        self._boost = boost
        self._continues_word, self._ends_word, self._is_text = continues_word, ends_word, is_text
        self._places: Places = frozenset()
        self._trial: _Trial | None = None
        self._tries = 0
        self._may_begin = True
        """True where a word may begin without a space."""

    @property
    def unsure(self) -> int:
        """Number of the tokens said last that may still be taken back."""
        return self._trial.said if self._trial else 0

    def follow(self, token: int) -> None:
        """Take a token that stands."""
        start = self._terms.anywhere if self._may_begin else self._terms.behind_space
        self._places = _open(_places(token, start, self._terms.after(self._places)))
        self._may_begin = not self._ends_word[token]

    def choose(self, own: int, log_probs: NDArray[np.float32]) -> Chosen:
        """Return the next token, where the model would take ``own``; ``log_probs`` are f32 [vocabulary]."""
        if self._trial is not None and self._trial.is_whole:
            if self._continues_word[own] and own not in self._terms.after(self._places).places:
                return self._take_back(self._trial)
            self._trial = None
        chosen = self._begin(own, log_probs) if self._trial is None else self._go_on(self._trial, own, log_probs)
        self._may_begin = not self._ends_word[chosen.token]
        return chosen

    def end(self) -> Chosen | None:
        """Take the end of the tokens. Return the model's own token in place of a term that is only half said."""
        trial = self._trial
        if trial is None or trial.is_whole:
            self._trial = None
            return None
        return self._take_back(trial)

    def _begin(self, own: int, log_probs: NDArray[np.float32]) -> Chosen:
        start = self._terms.anywhere if self._may_begin else self._terms.behind_space
        on = self._terms.after(self._places)
        before, self._places = self._places, _places(own, start, on)
        if not self._places and self._tries < MOST_TRIES and self._is_text[own]:
            token, cost = _best(own, log_probs, start, on)
            if cost <= self._boost:
                self._tries += 1
                self._trial = _Trial(own, float(log_probs[own]), cost, before)
                self._places = _places(token, start, on)
                self._note_end(self._trial)
                return Chosen(token, float(log_probs[token]))
        self._places = _open(self._places)
        return Chosen(own, float(log_probs[own]))

    def _go_on(self, trial: _Trial, own: int, log_probs: NDArray[np.float32]) -> Chosen:
        on = self._terms.after(self._places)
        token, cost = (own, 0.0) if own in on.places else _best(own, log_probs, on, NONE)
        if trial.cost + cost > self._boost:
            return self._take_back(trial)
        trial.cost += cost
        trial.said += 1
        self._places = on.places[token]
        self._note_end(trial)
        return Chosen(token, float(log_probs[token]))

    def _note_end(self, trial: _Trial) -> None:
        trial.is_whole = any(place.is_end for place in self._places)
        self._places = _open(self._places)

    def _take_back(self, trial: _Trial) -> Chosen:
        self._trial = None
        self._places = _open(self._terms.after(trial.left).places.get(trial.own, frozenset()))
        self._may_begin = not self._ends_word[trial.own]
        return Chosen(trial.own, trial.log_prob, trial.said)


def _places(token: int, *nexts: Next) -> Places:
    return frozenset().union(*(each.places.get(token, frozenset()) for each in nexts))


def _open(places: Places) -> Places:
    return frozenset(place for place in places if not place.is_end)


def _best(own: int, log_probs: NDArray[np.float32], *nexts: Next) -> tuple[int, float]:
    """Return the most probable of the tokens that spell terms, and by how many nats ``own`` is more probable."""
    found = [
        (int(each.tokens[place]), float(values[place]))
        for each in nexts
        if each.tokens.size
        for values in (log_probs[each.tokens],)
        for place in (int(values.argmax()),)
    ]
    if not found:
        return own, np.inf
    token, value = max(found, key=lambda pair: pair[1])
    return token, float(log_probs[own]) - value
