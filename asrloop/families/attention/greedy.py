"""Greedy search in slots: one token a step for each, but the tokens of a draft at once.

K/V of all utterances live in rows of buffers that are bound to the decoder once for every number of rows; a step moves only
token ids and lengths. The rows that are stepped are always the first ones. The tokens of a draft are rows, too: of the same K/V.
"""

from collections.abc import Sequence
from functools import partial
from itertools import takewhile

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop.engine.family import NOTHING, Emission
from asrloop.engine.options import Draft
from asrloop.families.attention.attending import Attending
from asrloop.families.attention.checking import CheckedRow
from asrloop.families.attention.memory import DecoderSizes
from asrloop.families.attention.rows import EncodedAudio, Rows
from asrloop.families.attention.said import Said
from asrloop.families.attention.steps import BoundStep, CalledStep, Step
from asrloop.families.bias import Bias
from asrloop.onnx_files.sessions import Graph


class GreedySearch:
    """Slots of an attention decoder; the methods are those of :class:`asrloop.engine.family.Batch`."""

    def __init__(
        self,
        decoder: ort.InferenceSession | Graph,
        sizes: DecoderSizes,
        slots: int,
        token_capacity: int,
        frame_capacity: int,
        *,
        compares: bool = False,
    ) -> None:
        """Take a ``decoder`` that is a session of this process, or a graph that runs elsewhere; for ``compares`` see Attending."""
        self.another = partial(GreedySearch, decoder, sizes, slots, token_capacity, frame_capacity, compares=compares)
        """Returns one with the same decoder, and slots of its own."""
        self._sizes = sizes
        self._rows = Rows(sizes, slots, token_capacity, frame_capacity)
        self._row_of = list(range(slots))
        """The row that each slot has now."""
        self._attending = Attending(sizes, compares=compares)
        self._said = [Said() for _ in range(slots)]
        self._checked: CheckedRow | None = None
        self._step: Step
        if isinstance(decoder, ort.InferenceSession):
            self._step = BoundStep(decoder, self._rows)
            self._checked = CheckedRow(decoder, sizes, token_capacity, frame_capacity, self._attending)
        else:
            self._step = CalledStep(decoder, self._rows)

    @property
    def is_here(self) -> bool:
        """False where the decoder runs elsewhere: to check a draft, or to look at all its probabilities, would send much back."""
        return self._checked is not None

    def language(self, slot: int, encoded: EncodedAudio) -> int:
        """Return which of the languages that the model tells apart is spoken, by the step from BOS."""
        self._rows.start(self._row_of[slot], encoded)
        self._close_ranks([slot])
        self._step(1)
        if self._rows.language_logits is None:
            raise AssertionError("the model does not tell languages apart")
        return int(self._rows.language_logits[0, 0].argmax())

    def admit(
        self,
        slot: int,
        encoded: EncodedAudio,
        draft: Draft,
        *,
        word_times: bool = False,
        bias: Bias | None = None,
        prefix: Sequence[int] = (),
    ) -> Emission:
        """Copy the cross K/V into the row of ``slot``, start it from ``prefix`` or BOS, and check ``draft``, if it takes drafts.

        Gives the right tokens of the draft and one more: the token that the model decides in place of the first wrong one, or
        behind the last.
        """
        row, prefix = self._row_of[slot], prefix or (self._sizes.bos,)
        self._rows.start(row, encoded)
        said = self._said[slot] = Said(bias, keeps_queries=word_times)
        likely = list(takewhile(self._may_be_drafted, draft.tokens[: encoded.token_limit]))
        if self._checked is None:
            self._begin_by_steps(slot, prefix)
            return NOTHING
        if not likely and len(prefix) == 1:
            return NOTHING
        self._checked.begin(encoded, prefix)
        decided = NOTHING
        if likely:
            # Forced tokens end where the draft does: before a token that is no text, and at the limit of this audio.
            decided = self._checked.decide(likely, min(draft.forced, len(likely)), said)
        if not decided.done:
            self._rows.take_over(row, self._checked.rows)
        return decided

    def _begin_by_steps(self, slot: int, prefix: Sequence[int]) -> None:
        """Start the row of ``slot`` from ``prefix`` where several tokens of a row cannot be given to the decoder at once."""
        if len(prefix) == 1:
            return
        self._close_ranks([slot])
        for token in prefix[:-1]:
            self._rows.tokens[0] = token
            self._step(1)
            self._rows.lengths[0] += 1
        self._rows.begin(0, prefix)

    def step(self, slots: Sequence[int]) -> list[Emission]:
        """Decide one token for each of ``slots``. A row ends with EOS, or where it goes on beyond its token limit."""
        self._close_ranks(slots)
        self._step(len(slots))
        rows = self._rows
        return [
            self._said[slot].decide(
                rows,
                row,
                *rows.taken(row, row),
                rows.log_probs[row, 0],
                partial(self._attending.queries, rows, row),
            )
            for slot, row in [(slot, self._row_of[slot]) for slot in slots]
        ]

    def finish(self, slot: int, kept: int) -> NDArray[np.float32] | None:
        """Free the row of ``slot``. Return how much each of the first ``kept`` tokens attended to each frame, f32 [kept, frames];
        None where nobody wants the times of words."""
        row, queries = self._row_of[slot], self._said[slot].queries
        weights = None if queries is None else self._attending.weights(self._rows, row, queries[:kept])
        self._said[slot] = Said()
        self._rows.free(row)
        return weights

    def _may_be_drafted(self, token: int) -> bool:
        return 0 <= token < self._sizes.vocabulary_size and token not in (self._sizes.bos, self._sizes.eos)

    def _close_ranks(self, slots: Sequence[int]) -> None:
        """Give ``slots`` the first rows: a row that is only carried along costs as much as one with a short utterance."""
        slot_of = {row: slot for slot, row in enumerate(self._row_of)}
        behind = [slot for slot in slots if self._row_of[slot] >= len(slots)]
        before = [row for row in range(len(slots)) if slot_of[row] not in slots] if behind else []
        for slot, row in zip(behind, before, strict=True):
            self._rows.exchange(self._row_of[slot], row)
            self._row_of[slot_of[row]], self._row_of[slot] = self._row_of[slot], row
