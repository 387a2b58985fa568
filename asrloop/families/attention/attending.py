"""Says which frames a decoder attended to when it decided each token, by a few heads that follow the speech."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asrloop.families.attention.memory import DecoderSizes
from asrloop.families.attention.rows import Rows

Queries = NDArray[np.float32]
"""Of one token: f32 [alignment heads, cross_head_size]."""


FEWEST_TO_COMPARE = 3
"""Tokens; of fewer no mean says what they have in common."""

DEVIATIONS = 3.0
"""Standard deviations above the mean that are full evidence."""


class Attending:
    """Keeps no state."""

    def __init__(self, sizes: DecoderSizes, *, compares: bool = False) -> None:
        """``compares`` where heads also attend to frames that speak for no token more than for others, as Whisper's do."""
        self._compares = compares
        self._heads = sizes.alignment_heads
        self._size = sizes.cross_head_size
        self._scale = sizes.head_size**-0.5 if sizes.head_size else 1.0

    def queries(self, rows: Rows, row: int) -> Queries:
        """Return a copy of what the last step asked in ``row``."""
        size = self._size
        asked = [rows.queries[layer][row, 0, head * size : (head + 1) * size] for layer, head in self._heads]
        return np.array(asked, np.float32).reshape(len(self._heads), size)

    def weights(self, rows: Rows, row: int, queries: Sequence[Queries]) -> NDArray[np.float32]:
        """Return the mean evidence of the attention of tokens, whose ``queries`` are given in order, to what ``row`` heard.

        f32 [tokens, frames], 0..1. It is the attention's root, which makes many faint hints weigh more than one strong one; or how
        much more a token attends to a frame than the others do.
        """
        frames = int(rows.heard[row])
        found = np.zeros((len(queries), frames), np.float32)
        if not queries:
            return found
        stacked = np.stack(queries)
        for place, (layer, head) in enumerate(self._heads):
            keys = rows.memory.cross[f"cross_key_{layer}"][row, head, :frames].astype(np.float32)
            # No matrix product of NumPy's: its library would start threads for it, beside those that encode and step.
            scores = self._scale * np.einsum("td,fd->tf", stacked[:, place], keys)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            compares = self._compares and len(shares) >= FEWEST_TO_COMPARE
            found += _above_others(shares) if compares else np.sqrt(shares)
        return np.clip(found / np.float32(len(self._heads)), 0.0, 1.0)


def _above_others(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    deviation = shares.std(axis=0, keepdims=True) + np.float32(1e-9)
    return np.asarray((shares - shares.mean(axis=0, keepdims=True)) / (DEVIATIONS * deviation), np.float32)
