"""Rows that a decoder steps: last token, tokens so far, frames, token limit and K/V of each. Knows no slots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrloop.engine.family import Emission
from asrloop.families.attention.memory import DecoderSizes, Memory, Zeros
from asrloop.onnx_files.sessions import Tensors


@dataclass(frozen=True)
class EncodedAudio:
    """Cross K/V of one utterance, [1, heads, frames, cross_head_size] by name, and how many tokens it may get."""

    cross: Tensors
    frames: int
    token_limit: int
    heard: int = 0
    """Number of the first frames, which hold the audio; the others are silence behind it. 0 for all."""


class Rows:
    def __init__(
        self, sizes: DecoderSizes, count: int, token_capacity: int, frame_capacity: int, zeros: Zeros = np.zeros
    ) -> None:
        """Make ``count`` rows; ``zeros`` allocates their K/V."""
        self.memory = Memory(sizes, count, token_capacity + 1, frame_capacity, zeros)  # BOS and the tokens
        self.bos, self.eos = sizes.bos, sizes.eos
        self.count = count
        self.tokens = np.full((count, 1), sizes.bos, np.int64)
        self.lengths = np.zeros(count, np.int32)
        """Tokens in the cache: those of the prefix but its last, and those of the text."""
        self.begins = np.zeros(count, np.int32)
        """Length before the first token of the text."""
        self.frames = np.ones(count, np.int32)
        self.heard = np.ones(count, np.int32)
        self.token_limits = np.zeros(count, np.int32)
        self.next_tokens = np.zeros((count, 1), np.int64)
        self.token_log_probs = np.zeros((count, 1), np.float32)
        self.log_probs = np.zeros((count, 1, sizes.padded_vocabulary), np.float32)
        self.language_logits = np.zeros((count, 1, sizes.languages), np.float32) if sizes.languages else None
        self.wanted = np.arange(count) if sizes.picks_rows else None
        self._not_first = list(sizes.not_first)
        width = sizes.heads * sizes.cross_head_size
        self.queries = {layer: np.zeros((count, 1, width), np.float32) for layer in sizes.query_layers}
        """Of the last step, by layer."""

    def start(self, row: int, encoded: EncodedAudio) -> None:
        """Put an utterance into ``row``, with nothing decided."""
        self.memory.put(row, encoded.cross, encoded.frames)
        self.frames[row] = encoded.frames
        self.heard[row] = encoded.heard or encoded.frames
        self.token_limits[row] = encoded.token_limit
        self.begin(row, (self.bos,))

    def begin(self, row: int, prefix: Sequence[int]) -> None:
        """Let the text of ``row`` begin behind ``prefix``, all of which but the last token is in the cache."""
        self.tokens[row] = prefix[-1]
        self.lengths[row] = self.begins[row] = len(prefix) - 1

    def said(self, row: int) -> int:
        """Return how many tokens its text has."""
        return int(self.lengths[row] - self.begins[row])

    def taken(self, row: int, step_row: int) -> tuple[int, float]:
        """Return the token that the last step took for ``row``, in ``step_row`` of its results, and its log probability."""
        token, log_prob = int(self.next_tokens[step_row, 0]), float(self.token_log_probs[step_row, 0])
        if token in self._not_first and not self.said(row):
            others = self.log_probs[step_row, 0].copy()
            others[self._not_first] = -np.inf
            token = int(others.argmax())
            log_prob = float(others[token])
        return token, log_prob

    def may_take_another(self, rows: int) -> bool:
        """Return True when :meth:`taken` may look at all log probabilities of the first ``rows`` rows."""
        return bool(self._not_first) and any(not self.said(row) for row in range(rows))

    def advance(self, row: int, token: int, log_prob: float) -> Emission:
        """Append the token that a successful step decided for ``row``, or end the row."""
        at_limit = bool(self.said(row) >= self.token_limits[row])
        if token == self.eos or at_limit:
            return Emission((), (), done=True, cut=token != self.eos)
        self.tokens[row] = token
        self.lengths[row] += 1
        return Emission((token,), (), done=False, log_probs=(log_prob,))

    def rewind(self, row: int, tokens: int) -> None:
        """Take the last ``tokens`` back. One is appended before the next step."""
        self.lengths[row] -= tokens

    def free(self, row: int) -> None:
        """Empty ``row``, so that a step attends to one frame of it and ``exchange`` copies one."""
        self.lengths[row], self.begins[row], self.frames[row] = 0, 0, 1

    def take_over(self, row: int, other: "Rows") -> None:
        """Continue the first row of ``other`` in ``row``, which has the same cross K/V."""
        length = int(other.lengths[0])
        self.memory.take_over(row, other.memory, length)
        self.tokens[row], self.lengths[row], self.begins[row] = other.tokens[0], length, other.begins[0]

    def exchange(self, one: int, other: int) -> None:
        """Swap two rows."""
        tokens = int(self.lengths[one]), int(self.lengths[other])
        frames = int(self.frames[one]), int(self.frames[other])
        self.memory.exchange(one, other, tokens, frames)
        for numbers in (self.tokens, self.lengths, self.begins, self.frames, self.heard, self.token_limits):
            numbers[[one, other]] = numbers[[other, one]]
