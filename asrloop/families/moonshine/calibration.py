"""Which values the layers of a model see on real speech: runs the fp32 graphs and watches every multiplication's input."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from asrloop.audio import SAMPLE_RATE
from asrloop.families.moonshine.decoder_graph import cache_head_size, decoder_step
from asrloop.families.moonshine.encoder_graph import encoder
from asrloop.families.moonshine.linear import Float32
from asrloop.families.moonshine.observation import CrossLimit, Observation, Observations
from asrloop.families.moonshine.weights import Array, MoonshineConfig, MoonshineWeights
from asrloop.onnx_files.graph_writer import with_outputs

PIECE_SECONDS = 8.0
TOKENS_PER_SECOND = 6.5
"""Most tokens a second, faster than the recordings' speakers: nothing is learned from a decoder that repeats itself."""


def observe(weights: MoonshineWeights, speech: Sequence[Array]) -> Observations:
    """What the model's layers see over ``speech`` (f32 [N] at 16 kHz each)."""
    linear = Float32()
    encoder_run = _Watched(encoder(weights, linear), linear.inputs)
    linear = Float32()
    decoder_run = _Watched(decoder_step(weights, linear), linear.inputs)
    limits = [CrossLimit(*np.zeros((2, weights.config.hidden_size), np.float32)) for _ in weights.decoder_layers]
    for piece in pieces(speech):
        cross = encoder_run({"audio": piece[None]})
        _decode(decoder_run, weights.config, cross, int(piece.size / SAMPLE_RATE * TOKENS_PER_SECOND) + 1)
        limits = [_raised(limit, cross, layer, weights.config) for layer, limit in enumerate(limits)]
        encoder_run.digest()
        decoder_run.digest()
    return Observations(encoder_run.observed, decoder_run.observed, limits)


def _raised(limit: CrossLimit, cross: Mapping[str, NDArray[Any]], layer: int, config: MoonshineConfig) -> CrossLimit:
    """``limit``, raised to the magnitudes in ``cross``."""
    key, value = (
        np.abs(cross[f"cross_{part}_{layer}"][0, :, :, : config.head_size]).max(axis=1).reshape(-1)
        for part in ("key", "value")
    )
    return CrossLimit(np.maximum(limit.key, key), np.maximum(limit.value, value))


def pieces(speech: Sequence[Array]) -> Iterator[Array]:
    """Cut into pieces about as long as an utterance."""
    for samples in speech:
        count = max(1, round(samples.size / SAMPLE_RATE / PIECE_SECONDS))
        yield from np.array_split(samples, count)


class _Watched:
    """A session that also remembers what goes into each layer."""

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
        """Turn what was seen since the last call into observations."""
        for name, vectors in self._vectors.items():
            seen = Observation.of(np.concatenate(vectors))
            vectors.clear()
            for layer in self._layers[name]:
                self.observed[layer] = self.observed[layer].joined(seen) if layer in self.observed else seen


def _decode(run: _Watched, config: MoonshineConfig, cross: Mapping[str, NDArray[Any]], limit: int) -> None:
    """Greedy search over one utterance."""
    shape = (1, config.heads, limit, cache_head_size(config))
    parts = [f"{part}_{layer}" for layer in range(config.decoder_layers) for part in ("key", "value")]
    caches = {f"past_{part}": np.zeros(shape, np.float32) for part in parts}
    frames = np.array([cross["cross_key_0"].shape[2]], np.int32)
    token = np.array([[config.bos]])
    for length in range(limit):
        fed = {"tokens": token, "lengths": np.array([length], np.int32), "frames": frames}
        results = run({**fed, **caches, **cross})
        token = results["next_tokens"]
        if token[0, 0] == config.eos:
            return
        caches = {f"past_{part}": results[f"present_{part}"] for part in parts}
