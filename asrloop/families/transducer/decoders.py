"""Two ways to run a NeMo ``decoder_joint`` for many utterances: split into prediction and joint network, or whole.

Both keep, for every slot, the prediction network's state after the last token. Neither knows frames, blanks or durations.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from asrloop.onnx_files.sessions import Graph, Tensors

Floats = NDArray[np.float32]


class TransducerDecoder(Protocol):
    """Scores for greedy search. Every method that runs a graph either takes effect completely or raises."""

    def another(self) -> "TransducerDecoder":
        """Return one with the same graphs, and as many slots of its own."""

    def frames(self, encoder_outputs: Floats) -> Floats:
        """Prepare the frames of one utterance: f32 [1, D, T] to f32 [T, ...]. Touches no slot."""

    def begin(self, slot: int) -> None:
        """Reset ``slot`` to the state before any token."""

    def logits(self, slots: Sequence[int], frames: Floats) -> Floats:
        """Return scores f32 [N, W, C] of prepared frames f32 [N, W, ...], row n after the tokens of ``slots[n]``."""

    def accept(self, slots: Sequence[int], tokens: Sequence[int]) -> None:
        """Append a token to each of ``slots``, which must be among those of the last ``logits`` call. Runs no graph."""

    def state(self, slot: int) -> Any:
        """Return the state of ``slot``, to be restored later."""

    def restore(self, slot: int, state: Any) -> None:
        """Put ``slot`` back where it was. Runs no graph."""


class SplitDecoder:
    """Runs the parts that ``asrloop.families.transducer.split_joint`` makes: prediction once a token, joint for a window of frames.

    A token's prediction waits for the next ``logits``, where one call does both if every row has a new token.
    """

    def __init__(
        self,
        frames: Graph,
        prediction: Graph,
        joint: Graph,
        prediction_joint: Graph,
        *,
        slots: int,
        state_shapes: Sequence[tuple[int, int]],
        targets_dtype: DTypeLike,
        blank: int,
    ) -> None:
        self.frames_graph = frames
        self.prediction_graph = prediction
        self.joint_graph = joint
        self.prediction_joint_graph = prediction_joint
        zeros = [np.zeros((layers, 1, width), np.float32) for layers, width in state_shapes]
        self._start = _rows(prediction(_prediction_inputs(np.array([blank], targets_dtype), zeros)), 1)[0]
        self._predicted = [self._start] * slots
        self._tokens = np.full(slots, blank, targets_dtype)
        self._new: set[int] = set()
        """Slots whose last token the prediction network has not seen."""

    def another(self) -> "SplitDecoder":
        other = copy.copy(self)
        other._predicted, other._tokens, other._new = [self._start] * len(self._predicted), self._tokens.copy(), set()
        return other

    def frames(self, encoder_outputs: Floats) -> Floats:
        (prepared,) = _float32(self.frames_graph({"encoder_outputs": encoder_outputs})["frames_part"])
        return np.asarray(prepared, np.float32)

    def begin(self, slot: int) -> None:
        self._new.discard(slot)
        self._predicted[slot] = self._start

    def logits(self, slots: Sequence[int], frames: Floats) -> Floats:
        new = [slot for slot in slots if slot in self._new]
        if len(new) == len(slots):
            outputs = self.prediction_joint_graph({"frames_part": frames, **self._inputs(new)})
            self._keep(new, outputs)
        else:
            if new:
                self._keep(new, self.prediction_graph(self._inputs(new)))
            tokens_part = _batch([self._predicted[slot].tokens_part for slot in slots], axis=0)
            outputs = self.joint_graph({"frames_part": frames, "tokens_part": tokens_part})
        return _float32(outputs["outputs"]).reshape(*frames.shape[:2], -1)

    def accept(self, slots: Sequence[int], tokens: Sequence[int]) -> None:
        self._tokens[slots] = tokens
        self._new.update(slots)

    def state(self, slot: int) -> Any:
        return self._predicted[slot], self._tokens[slot], slot in self._new

    def restore(self, slot: int, state: Any) -> None:
        self._predicted[slot], self._tokens[slot], is_new = state
        (self._new.add if is_new else self._new.discard)(slot)

    def _inputs(self, slots: list[int]) -> dict[str, NDArray[np.generic]]:
        before = [self._predicted[slot] for slot in slots]
        states = [_batch([row.state_1 for row in before], axis=1), _batch([row.state_2 for row in before], axis=1)]
        return _prediction_inputs(self._tokens[slots], states)

    def _keep(self, slots: list[int], outputs: Tensors) -> None:
        for slot, predicted in zip(slots, _rows(outputs, len(slots)), strict=True):
            self._predicted[slot] = predicted
        self._new.difference_update(slots)


class WholeDecoder:
    """Runs ``decoder_joint`` as it is: the prediction network runs again with every call, its state is kept on blanks."""

    def __init__(
        self,
        decoder_joint: Graph,
        *,
        slots: int,
        state_shapes: Sequence[tuple[int, int]],
        targets_dtype: DTypeLike,
        blank: int,
    ) -> None:
        self.decoder_joint_graph = decoder_joint
        self._blank = blank
        self._tokens = np.full(slots, blank, targets_dtype)
        self._states = [np.zeros((layers, slots, width), np.float32) for layers, width in state_shapes]
        self._after: list[Floats] = []
        self._after_slots: list[int] = []

    def another(self) -> "WholeDecoder":
        other = copy.copy(self)
        other._tokens, other._states = self._tokens.copy(), [buffer.copy() for buffer in self._states]
        other._after, other._after_slots = [], []
        return other

    def frames(self, encoder_outputs: Floats) -> Floats:
        (one,) = encoder_outputs
        return np.asarray(one.T, np.float32)

    def begin(self, slot: int) -> None:
        self._tokens[slot] = self._blank
        for buffer in self._states:
            buffer[:, slot] = 0.0

    def logits(self, slots: Sequence[int], frames: Floats) -> Floats:
        """Return scores, and keep the states after the last token for ``accept``."""
        states = [buffer[:, slots] for buffer in self._states]
        inputs = _prediction_inputs(self._tokens[slots], states)
        outputs = self.decoder_joint_graph(
            {"encoder_outputs": np.ascontiguousarray(frames.transpose(0, 2, 1)), **inputs}
        )
        self._after = [_float32(outputs["output_states_1"]), _float32(outputs["output_states_2"])]
        self._after_slots = list(slots)
        return _float32(outputs["outputs"]).reshape(*frames.shape[:2], -1)

    def accept(self, slots: Sequence[int], tokens: Sequence[int]) -> None:
        rows = [self._after_slots.index(slot) for slot in slots]
        self._tokens[slots] = tokens
        for buffer, state in zip(self._states, self._after, strict=True):
            buffer[:, slots] = state[:, rows]

    def state(self, slot: int) -> Any:
        return self._tokens[slot], [buffer[:, slot].copy() for buffer in self._states]

    def restore(self, slot: int, state: Any) -> None:
        self._tokens[slot], states = state
        for buffer, before in zip(self._states, states, strict=True):
            buffer[:, slot] = before


class _Predicted(NamedTuple):
    """Outputs of the prediction network for one row: f32 [1, ...] for the joint and the states f32 [L, 1, H]."""

    tokens_part: Floats
    state_1: Floats
    state_2: Floats


def _rows(outputs: Tensors, count: int) -> list[_Predicted]:
    part, state_1, state_2 = (_float32(outputs[name]) for name in ("tokens_part", "output_states_1", "output_states_2"))
    cuts = [slice(row, row + 1) for row in range(count)]
    return [_Predicted(part[cut], state_1[:, cut], state_2[:, cut]) for cut in cuts]


def _batch(rows: list[Floats], axis: int) -> Floats:
    return np.concatenate(rows, axis) if len(rows) > 1 else rows[0]


def _prediction_inputs(targets: NDArray[np.generic], states: Sequence[Floats]) -> dict[str, NDArray[np.generic]]:
    return {
        "targets": targets[:, None],
        "target_length": np.ones_like(targets),
        "input_states_1": states[0],
        "input_states_2": states[1],
    }


def _float32(array: NDArray[np.generic]) -> Floats:
    return np.asarray(array, np.float32)
