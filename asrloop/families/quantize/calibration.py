"""Observes the inputs of a graph's layers while it runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from asrloop.audio import SAMPLE_RATE
from asrloop.families.quantize.layer import Array
from asrloop.families.quantize.observation import Observation
from asrloop.onnx_files.graph_writer import with_outputs

PIECE_SECONDS = 8.0


def pieces(speech: Sequence[Array]) -> Iterator[Array]:
    """Cut recordings into pieces about as long as an utterance, PIECE_SECONDS."""
    for samples in speech:
        count = max(1, round(samples.size / SAMPLE_RATE / PIECE_SECONDS))
        yield from np.array_split(samples, count)


class WatchedSession:
    """A session that also keeps the input of each layer. ``layer_inputs`` are names of values by layer."""

    def __init__(self, model: ModelProto, layer_inputs: Mapping[str, str]) -> None:
        own = [output.name for output in model.graph.output]
        watched = sorted(set(layer_inputs.values()) - set(own))
        options = ort.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            with_outputs(model, watched).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._own = own
        self._watched = watched
        self._layers = {value: [layer for layer, x in layer_inputs.items() if x == value] for value in watched}
        self._vectors: dict[str, list[Array]] = {value: [] for value in watched}
        self.observed: dict[str, Observation] = {}

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        results = self._session.run(self._own + self._watched, dict(inputs))
        for name, values in zip(self._watched, results[len(self._own) :], strict=True):
            self._vectors[name].append(values.reshape(-1, values.shape[-1]))
        return dict(zip(self._own, results, strict=False))

    def digest(self) -> None:
        """Turn the inputs since the last call into observations."""
        for name, vectors in self._vectors.items():
            seen = Observation.of(np.concatenate(vectors))
            vectors.clear()
            for layer in self._layers[name]:
                self.observed[layer] = self.observed[layer].joined(seen) if layer in self.observed else seen
