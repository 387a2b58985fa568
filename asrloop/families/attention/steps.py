"""Steps of the decoder over the first rows, in a session that is bound to their memory or by a graph that runs elsewhere."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop.families.attention.memory import bind_array, query_name
from asrloop.families.attention.rows import Rows
from asrloop.onnx_files.sessions import Graph

Step = Callable[[int], None]
"""Takes a number of rows and decides one token for each of the first so many; the results are in the rows."""


class BoundStep:
    """Steps rows in a session whose inputs and outputs are bound to their memory."""

    def __init__(self, session: ort.InferenceSession, state: Rows) -> None:
        self._session = session
        self._state = state
        self._bindings = [self._bind(rows, rows) for rows in range(1, state.count + 1)]
        self._to_caches: dict[int, ort.IOBinding] = {}

    def __call__(self, rows: int) -> None:
        self._session.run_with_iobinding(self._bindings[rows - 1])

    def fill_caches(self, rows: int) -> None:
        """Write the K/V of the tokens of the first ``rows`` rows. Where the graph lets choose, it decides for one only: the head is
        a third of a step and more."""
        if rows not in self._to_caches:
            self._to_caches[rows] = self._bind(rows, rows if self._state.wanted is None else 1)
        self._session.run_with_iobinding(self._to_caches[rows])

    def _bind(self, rows: int, decided: int) -> ort.IOBinding:
        """Bind ``rows`` rows, of which the first ``decided`` are decided for."""
        state, binding = self._state, self._session.io_binding()
        for name in ("tokens", "lengths", "frames"):
            bind_array(binding.bind_input, name, getattr(state, name), rows)
        if state.wanted is not None:
            bind_array(binding.bind_input, "wanted", state.wanted, decided)
        for name in ("next_tokens", "token_log_probs", "log_probs"):
            bind_array(binding.bind_output, name, getattr(state, name), decided)
        if state.language_logits is not None:
            bind_array(binding.bind_output, "language_logits", state.language_logits, decided)
        for layer, queries in state.queries.items():
            bind_array(binding.bind_output, query_name(layer), queries, rows)
        state.memory.bind(binding, rows)
        return binding


class CalledStep:
    """Steps rows by a graph that runs elsewhere. Sends only the used part of their memory."""

    def __init__(self, graph: Graph, state: Rows) -> None:
        self._graph = graph
        self._state = state

    def __call__(self, rows: int) -> None:
        state, memory = self._state, self._state.memory
        tokens, frames = int(state.lengths[:rows].max()) + 1, int(state.frames[:rows].max())
        inputs: dict[str, NDArray[Any]] = {
            "tokens": state.tokens[:rows],
            "lengths": state.lengths[:rows],
            "frames": state.frames[:rows],
        }
        if state.wanted is not None:
            inputs["wanted"] = state.wanted[:rows]
        for name, cache in memory.cache.items():
            inputs[f"past_{name}"] = np.ascontiguousarray(cache[:rows, :, :tokens])
        for name, cross in memory.cross.items():
            inputs[name] = np.ascontiguousarray(cross[:rows, :, :frames])
        decided: dict[str, NDArray[Any]] = {"next_tokens": state.next_tokens, "token_log_probs": state.token_log_probs}
        if state.language_logits is not None:
            decided["language_logits"] = state.language_logits
        if state.may_take_another(rows):  # seldom: all log probabilities of a step are as large as its K/V
            decided["log_probs"] = state.log_probs
        wanted = [*decided, *(f"present_{name}" for name in memory.cache)]
        outputs = self._graph(inputs, [*wanted, *map(query_name, state.queries)])
        row, position = np.arange(rows), state.lengths[:rows]
        for name, cache in memory.cache.items():
            cache[row, :, position] = outputs[f"present_{name}"][row, :, position]
        for layer, queries in state.queries.items():
            queries[:rows] = outputs[query_name(layer)]
        for name, results in decided.items():
            results[:rows] = outputs[name]
