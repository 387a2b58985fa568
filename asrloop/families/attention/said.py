"""What was said in one slot so far: the only place that appends a token to a row, or takes some back."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from asrloop.engine.family import Emission, joined
from asrloop.families.attention.attending import Queries
from asrloop.families.attention.rows import Rows
from asrloop.families.bias import Bias, Chosen


class Said:
    """The state of a slot beside its row: what its caller's terms change, and what the times of its words are found by."""

    def __init__(self, bias: Bias | None = None, *, keeps_queries: bool = False) -> None:
        self.queries: list[Queries] | None = [] if keeps_queries else None
        """One for each token that was said."""
        self._bias = bias
        self._held: list[Emission] = []
        """Tokens that may be taken back."""

    def follow(self, rows: Rows, row: int, token: int, log_prob: float, asked: Callable[[], Queries]) -> Emission:
        """Append a token that stands, whatever the model would say."""
        if self._bias is not None:
            self._bias.follow(token)
        return self._appended(rows, row, token, log_prob, asked)

    def decide(
        self,
        rows: Rows,
        row: int,
        token: int,
        log_prob: float,
        log_probs: NDArray[np.float32],
        asked: Callable[[], Queries],
    ) -> Emission:
        """Append the token that the model took, or one of a term; return what cannot be taken back any more.

        ``log_probs`` are f32 [vocabulary]; ``asked`` returns what the model's heads asked for when it took the token.
        """
        if self._bias is None:
            return self._appended(rows, row, token, log_prob, asked)
        self._append(rows, row, self._bias.choose(token, log_probs), asked)
        if self._held[-1].done and (own := self._bias.end()) is not None and own.taken_back > 1:
            # The limit lies within a term that is half said; the last token of that was not appended.
            del self._held[-1]
            self._append(rows, row, own._replace(taken_back=own.taken_back - 1), asked)
        last = self._held[-1]
        ready = len(self._held) if last.done else len(self._held) - self._bias.unsure
        told, self._held = self._held[:ready], self._held[ready:]
        return joined(told, last)

    def _append(self, rows: Rows, row: int, chosen: Chosen, asked: Callable[[], Queries]) -> None:
        if chosen.taken_back:
            rows.rewind(row, chosen.taken_back)
            del self._held[-chosen.taken_back :]
            if self.queries is not None:
                first = self.queries[-chosen.taken_back]  # the model's own token was taken by the same question
                del self.queries[-chosen.taken_back :]
                asked = lambda: first  # noqa: E731
        self._held.append(self._appended(rows, row, chosen.token, chosen.log_prob, asked))

    def _appended(self, rows: Rows, row: int, token: int, log_prob: float, asked: Callable[[], Queries]) -> Emission:
        emission = rows.advance(row, token, log_prob)
        if self.queries is not None and emission.tokens:
            self.queries.append(asked())
        return emission
