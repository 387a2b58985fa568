"""The tensors of the rows that the decoder steps, and the step: bound to their memory, or called elsewhere. Knows no slots."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop.engine.family import Emission
from asrloop.onnx_files.sessions import Graph, Tensors

if TYPE_CHECKING:
    from asrloop.families.moonshine.decoding import MoonshineNumbers


@dataclass(frozen=True)
class EncodedAudio:
    """Cross K/V of one utterance, [1, heads, frames, cross_head_size] by name, and how many tokens it may get."""

    cross: Tensors
    frames: int
    token_limit: int


class Rows:
    """The tensors of all rows. Everything is zero at first, so untouched rows take no memory."""

    def __init__(
        self,
        numbers: "MoonshineNumbers",
        count: int,
        token_capacity: int,
        frame_capacity: int,
        zeros: Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]] = np.zeros,
    ) -> None:
        """``zeros`` makes the K/V."""
        cache = (count, numbers.heads, token_capacity + 1, numbers.cache_head_size)  # BOS and the tokens
        cross = (count, numbers.heads, frame_capacity, numbers.cross_head_size)
        names = [f"{part}_{layer}" for layer in range(numbers.decoder_layers) for part in ("key", "value")]
        self.bos, self.eos = numbers.bos, numbers.eos
        self.count = count
        self.cache = {name: zeros(cache, np.dtype(np.float32)) for name in names}
        self.cross = {f"cross_{name}": zeros(cross, np.dtype(numbers.cross_type)) for name in names}
        self.kept = {f"kept_{name}": buffer for name, buffer in self.cross.items() if buffer.dtype == np.int8}
        self.tokens = np.full((count, 1), numbers.bos, np.int64)
        self.lengths = np.zeros(count, np.int32)
        self.frames = np.ones(count, np.int32)
        self.token_limits = np.zeros(count, np.int32)
        self.next_tokens = np.zeros((count, 1), np.int64)
        self.token_log_probs = np.zeros((count, 1), np.float32)

    def start(self, row: int, encoded: EncodedAudio) -> None:
        """Give ``row`` an utterance and nothing decided."""
        for name, buffer in self.cross.items():
            buffer[row, :, : encoded.frames] = encoded.cross[name][0]
        self.frames[row] = encoded.frames
        self.token_limits[row] = encoded.token_limit
        self.tokens[row] = self.bos
        self.lengths[row] = 0

    def advance(self, row: int, token: int, log_prob: float) -> Emission:
        """Take over what a successful step decided for ``row``."""
        at_limit = bool(self.lengths[row] >= self.token_limits[row])
        if token == self.eos or at_limit:
            return Emission((), (), done=True, cut=token != self.eos)
        self.tokens[row] = token
        self.lengths[row] += 1
        return Emission((token,), (), done=False, log_probs=(log_prob,))

    def free(self, row: int) -> None:
        """Let steps attend to nothing in ``row``."""
        self.lengths[row], self.frames[row] = 0, 1

    def take_over(self, row: int, other: "Rows") -> None:
        """Let ``row``, which has the same cross K/V as the first row of ``other``, go on where that one is."""
        length = int(other.lengths[0])
        for name, buffer in self.cache.items():
            buffer[row, :, :length] = other.cache[name][0, :, :length]
        self.tokens[row], self.lengths[row] = other.tokens[0], length

    def exchange(self, one: int, other: int) -> None:
        """Let two rows change places. Only what is used is copied: of a row that has ended next to nothing."""
        for buffers, used in ((self.cache, self.lengths), (self.cross, self.frames)):
            of_one, of_other = int(used[one]), int(used[other])
            for buffer in buffers.values():
                kept = buffer[other, :, :of_other].copy()
                buffer[other, :, :of_one] = buffer[one, :, :of_one]
                buffer[one, :, :of_other] = kept
        for numbers in (self.tokens, self.lengths, self.frames, self.token_limits):
            numbers[[one, other]] = numbers[[other, one]]


Decided = tuple[NDArray[np.int64], NDArray[np.float32]]
"""``next_tokens`` i64 [rows, 1] and ``token_log_probs`` f32 [rows, 1] of a step."""


class BoundStep:
    """Steps the first rows in a session whose inputs and outputs are bound to the rows' memory."""

    def __init__(self, session: ort.InferenceSession, state: Rows) -> None:
        self._session = session
        self._state = state
        self._bindings = [self._bind(rows) for rows in range(1, state.count + 1)]

    def __call__(self, rows: int) -> Decided:
        """One token for each of the first ``rows`` rows."""
        self._session.run_with_iobinding(self._bindings[rows - 1])
        return self._state.next_tokens[:rows], self._state.token_log_probs[:rows]

    def _bind(self, rows: int) -> ort.IOBinding:
        state = self._state
        binding = self._session.io_binding()
        inputs: dict[str, NDArray[Any]] = {
            "tokens": state.tokens,
            "lengths": state.lengths,
            "frames": state.frames,
            **state.cross,
        }
        outputs: dict[str, NDArray[Any]] = {
            "next_tokens": state.next_tokens,
            "token_log_probs": state.token_log_probs,
            **state.kept,
        }
        for name, cache in state.cache.items():
            inputs[f"past_{name}"] = cache
            outputs[f"present_{name}"] = cache
        for tensors, bind in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
            for name, tensor in tensors.items():
                bind(name, "cpu", 0, tensor.dtype.type, (rows, *tensor.shape[1:]), tensor.ctypes.data)
        return binding


class CalledStep:
    """Steps the first rows by a graph that runs elsewhere. Tensors travel, so only their used part is sent."""

    def __init__(self, graph: Graph, state: Rows) -> None:
        self._graph = graph
        self._state = state

    def __call__(self, rows: int) -> Decided:
        """One token for each of the first ``rows`` rows."""
        state = self._state
        tokens, frames = int(state.lengths[:rows].max()) + 1, int(state.frames[:rows].max())
        inputs: dict[str, NDArray[Any]] = {
            "tokens": state.tokens[:rows],
            "lengths": state.lengths[:rows],
            "frames": state.frames[:rows],
        }
        for name, cache in state.cache.items():
            inputs[f"past_{name}"] = np.ascontiguousarray(cache[:rows, :, :tokens])
        for name, cross in state.cross.items():
            inputs[name] = np.ascontiguousarray(cross[:rows, :, :frames])
        outputs = self._graph(inputs)
        row, position = np.arange(rows), state.lengths[:rows]
        for name, cache in state.cache.items():
            cache[row, :, position] = outputs[f"present_{name}"][row, :, position]
        return np.asarray(outputs["next_tokens"], np.int64), np.asarray(outputs["token_log_probs"], np.float32)
