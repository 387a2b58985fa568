"""Checks drafts: decides the tokens of an utterance many at once, as long as a guess of them is right. Knows no slots."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnxruntime as ort

from asrloop.engine.family import Emission, joined
from asrloop.families.attention.attending import Attending
from asrloop.families.attention.memory import DecoderSizes
from asrloop.families.attention.repeated import capacity, repeated_zeros
from asrloop.families.attention.rows import EncodedAudio, Rows
from asrloop.families.attention.said import Said
from asrloop.families.attention.steps import BoundStep

CHECKED_AT_ONCE = 16
"""Most tokens of a draft that are checked together: those behind a wrong one are checked in vain."""


class CheckedRow:
    """Decides the first tokens of an utterance many at once, where a draft guesses them right.

    Each token is a row of a step, and all rows have the same K/V: the decoder writes those of all rows before it attends to
    any, and each row attends to as many as its length says. So the numbers are the same bits as those of single steps, which
    they would not be if the tokens were columns of one row: attention to several tokens at once adds up in another order.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        sizes: DecoderSizes,
        token_capacity: int,
        frame_capacity: int,
        attending: Attending,
    ) -> None:
        self._attending = attending
        tokens = capacity(token_capacity + 1, sizes.heads * sizes.cache_head_size * np.dtype(np.float32).itemsize)
        frames = capacity(frame_capacity, sizes.heads * sizes.cross_head_size * np.dtype(sizes.cross_type).itemsize)
        self.rows = Rows(sizes, CHECKED_AT_ONCE, tokens - 1, frames, repeated_zeros)
        self._step = BoundStep(session, self.rows)

    def begin(self, encoded: EncodedAudio, prefix: Sequence[int]) -> None:
        """Start the first row from ``prefix``: the K/V of its tokens but the last are made as many at once as there are rows."""
        rows = self.rows
        rows.start(0, encoded)
        for start in range(0, len(prefix) - 1, rows.count):
            some = prefix[start : min(start + rows.count, len(prefix) - 1)]
            self._put(some)
            self._step.fill_caches(len(some))
            rows.lengths[0] += len(some)
        rows.begin(0, prefix)

    def decide(self, likely: Sequence[int], forced: int, said: Said) -> Emission:
        """Return what single steps would give as long as that is ``likely``, and one more token: the first other or later one.

        The first ``forced`` tokens stand whatever steps would give. The first row is left where steps would go on.
        """
        rows = self.rows
        decided: list[Emission] = []
        while True:
            guesses = likely[rows.said(0) :][: CHECKED_AT_ONCE - 1]
            tokens = [int(rows.tokens[0, 0]), *guesses]
            self._put(tokens)
            self._step(len(tokens))
            for row in range(len(tokens)):
                at = rows.said(0)
                token, log_prob = rows.taken(0, row)
                asked = partial(self._attending.queries, rows, row)
                if at < forced:
                    decided.append(said.follow(rows, 0, likely[at], log_prob, asked))
                else:
                    decided.append(said.decide(rows, 0, token, log_prob, rows.log_probs[row, 0], asked))
                if decided[-1].done or at + 1 != rows.said(0) or [rows.tokens[0, 0]] != likely[at:][:1]:
                    return joined(decided, decided[-1])

    def _put(self, tokens: Sequence[int]) -> None:
        """Put ``tokens``, which stand behind those in the cache, into a row each."""
        rows, count = self.rows, len(tokens)
        length, frames = int(rows.lengths[0]), rows.frames[0]
        rows.tokens[:count, 0] = tokens
        rows.lengths[:count] = np.arange(length, length + count)
        rows.frames[:count] = frames
