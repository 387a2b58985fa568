"""Steps of the decoder over the first rows, in a session that is bound to their memory or by a graph that runs elsewhere."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop.families.attention.memory import bind_array, query_name
from asrloop.families.attention.rows import Rows
from asrloop.onnx_files.sessions import Graph

Decided = tuple[NDArray[np.int64], NDArray[np.float32]]
"""``next_tokens`` i64 [rows, 1] and ``token_log_probs`` f32 [rows, 1] of a step."""

Step = Callable[[int], Decided]
"""Takes a number of rows and decides one token for each of the first so many."""


class BoundStep:
    """Steps rows in a session whose inputs and outputs are bound to their memory."""

    def __init__(self, session: ort.InferenceSession, state: Rows) -> None:
        self._session = session
        self._state = state
        self._bindings = [self._bind(rows) for rows in range(1, state.count + 1)]

    def __call__(self, rows: int) -> Decided:
        self._session.run_with_iobinding(self._bindings[rows - 1])
        return self._state.next_tokens[:rows], self._state.token_log_probs[:rows]

    def _bind(self, rows: int) -> ort.IOBinding:
        state, binding = self._state, self._session.io_binding()
        for name in ("tokens", "lengths", "frames"):
            bind_array(binding.bind_input, name, getattr(state, name), rows)
        for name in ("next_tokens", "token_log_probs", "log_probs"):
            bind_array(binding.bind_output, name, getattr(state, name), rows)
        for layer, queries in state.queries.items():
            bind_array(binding.bind_output, query_name(layer), queries, rows)
        state.memory.bind(binding, rows)
        return binding


class CalledStep:
    """Steps rows by a graph that runs elsewhere. Sends only the used part of their memory."""

    def __init__(self, graph: Graph, state: Rows) -> None:
        self._graph = graph
        self._state = state

    def __call__(self, rows: int) -> Decided:
        state, memory = self._state, self._state.memory
        tokens, frames = int(state.lengths[:rows].max()) + 1, int(state.frames[:rows].max())
        inputs: dict[str, NDArray[Any]] = {
            "tokens": state.tokens[:rows],
            "lengths": state.lengths[:rows],
            "frames": state.frames[:rows],
        }
        for name, cache in memory.cache.items():
            inputs[f"past_{name}"] = np.ascontiguousarray(cache[:rows, :, :tokens])
        for name, cross in memory.cross.items():
            inputs[name] = np.ascontiguousarray(cross[:rows, :, :frames])
        # All log probabilities of a step are as large as its K/V: they stay where they are.
        wanted = ["next_tokens", "token_log_probs", *(f"present_{name}" for name in memory.cache)]
        outputs = self._graph(inputs, [*wanted, *map(query_name, state.queries)])
        row, position = np.arange(rows), state.lengths[:rows]
        for name, cache in memory.cache.items():
            cache[row, :, position] = outputs[f"present_{name}"][row, :, position]
        for layer, queries in state.queries.items():
            queries[:rows] = outputs[query_name(layer)]
        return np.asarray(outputs["next_tokens"], np.int64), np.asarray(outputs["token_log_probs"], np.float32)
