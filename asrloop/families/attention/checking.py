"""Checks drafts: decides the tokens of an utterance many at once, as long as a guess of them is right. Knows no slots."""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from asrloop.engine.family import Emission
from asrloop.families.attention.attending import Attending, Queries
from asrloop.families.attention.memory import DecoderSizes
from asrloop.families.attention.repeated import capacity, repeated_zeros
from asrloop.families.attention.rows import EncodedAudio, Rows
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
        self.queries: list[Queries] = []
        """Of the tokens that were decided last."""

    def decide(self, encoded: EncodedAudio, likely: Sequence[int], forced: int = 0) -> list[Emission]:
        """Return the emissions of single steps as long as they give ``likely``, and one more: the first other or later one.

        The first ``forced`` tokens stand whatever steps would give. The first row is left where steps would go on.
        """
        rows = self.rows
        rows.start(0, encoded)
        decided: list[Emission] = []
        self.queries = []
        while True:
            guesses = likely[len(decided) :][: CHECKED_AT_ONCE - 1]
            tokens, log_probs = self._decide([int(rows.tokens[0, 0]), *guesses])
            for row, (token, log_prob) in enumerate(zip(tokens, log_probs, strict=True)):
                self.queries.append(self._attending.queries(rows, row))
                expected = likely[len(decided) :][:1]
                taken = likely[len(decided)] if len(decided) < forced else token
                decided.append(rows.advance(0, taken, log_prob))
                if decided[-1].done or expected != [taken]:
                    return decided

    def _decide(self, tokens: Sequence[int]) -> tuple[list[int], list[float]]:
        """Return the token behind each of ``tokens``, which stand behind those in the cache, and its log probability."""
        rows, count = self.rows, len(tokens)
        length, frames = int(rows.lengths[0]), rows.frames[0]
        rows.tokens[:count, 0] = tokens
        rows.lengths[:count] = np.arange(length, length + count)
        rows.frames[:count] = frames
        next_tokens, log_probs = self._step(count)
        return next_tokens[:, 0].tolist(), log_probs[:, 0].tolist()
