"""Observes the inputs of a graph's layers while it runs on speech."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import soundfile
import soxr
from numpy.typing import NDArray
from onnx import ModelProto

from asrloop.audio import SAMPLE_RATE
from asrloop.families.attention.memory import DecoderSizes
from asrloop.families.quantize.layer import Array
from asrloop.families.quantize.observation import CrossLimit, Observation, Observations
from asrloop.onnx_files.external_data import write
from asrloop.onnx_files.graph_writer import with_outputs

PIECE_SECONDS = 8.0


def pieces(speech: Sequence[Array]) -> Iterator[Array]:
    """Cut recordings into pieces about as long as an utterance, PIECE_SECONDS."""
    for samples in speech:
        count = max(1, round(samples.size / SAMPLE_RATE / PIECE_SECONDS))
        yield from np.array_split(samples, count)


def recording(path: Path) -> Array:
    """Read a recording as f32 [N] at 16 kHz."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE), np.float32)


def recordings(paths: Sequence[Path]) -> list[Array]:
    """Read recordings to calibrate on. Raises FileNotFoundError where one is missing, or none is named."""
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise FileNotFoundError(
            f"speech to calibrate on is missing: {', '.join(map(str, missing)) or 'none given'}; name recordings of about a "
            "minute or more, or choose precision fp32"
        )
    return [recording(path) for path in paths]


class WatchedSession:
    """A session that also keeps the input of each layer. ``layer_inputs`` are names of values by layer."""

    def __init__(self, model: ModelProto, layer_inputs: Mapping[str, str]) -> None:
        own = [output.name for output in model.graph.output]
        watched = sorted(set(layer_inputs.values()) - set(own))
        options = ort.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with tempfile.TemporaryDirectory() as scratch:  # in memory a model may have 2 GB
            path = Path(scratch, "watched.onnx")
            write(with_outputs(model, watched), path)
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
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


def observe(
    encoder: WatchedSession,
    decoder: WatchedSession,
    sizes: DecoderSizes,
    audios: Iterable[tuple[Array, int]],
    prefix: Sequence[int] = (),
) -> Observations:
    """Return observations of all layers over ``audios``, each f32 [N] at 16 kHz with the most tokens that it may get.

    A decoder that repeats itself teaches nothing. ``prefix`` stands before each text; without it is BOS.
    """
    hidden_size = sizes.heads * sizes.head_size
    limits = [CrossLimit(*np.zeros((2, hidden_size), np.float32)) for _ in range(sizes.layers)]
    for audio, most in audios:
        cross = encoder({"audio": audio[None]})
        _decode(decoder, sizes, cross, prefix or (sizes.bos,), most)
        limits = [_raised(limit, cross, layer, sizes.head_size) for layer, limit in enumerate(limits)]
        encoder.digest()
        decoder.digest()
    return Observations(encoder.observed, decoder.observed, limits)


def _raised(limit: CrossLimit, cross: Mapping[str, NDArray[Any]], layer: int, head_size: int) -> CrossLimit:
    """Return ``limit``, raised to the magnitudes in ``cross``."""
    key, value = (
        np.abs(cross[f"cross_{part}_{layer}"][0, :, :, :head_size]).max(axis=1).reshape(-1) for part in ("key", "value")
    )
    return CrossLimit(np.maximum(limit.key, key), np.maximum(limit.value, value))


def _decode(
    run: WatchedSession, sizes: DecoderSizes, cross: Mapping[str, NDArray[Any]], prefix: Sequence[int], most: int
) -> None:
    """Run greedy search over one utterance."""
    shape = (1, sizes.heads, len(prefix) + most, sizes.cache_head_size)
    parts = [f"{part}_{layer}" for layer in range(sizes.layers) for part in ("key", "value")]
    caches = {f"past_{part}": np.zeros(shape, np.float32) for part in parts}
    frames = np.array([cross["cross_key_0"].shape[2]], np.int32)
    token = prefix[0]
    for length in range(len(prefix) + most - 1):
        fed = {"tokens": np.array([[token]]), "lengths": np.array([length], np.int32), "frames": frames}
        if sizes.picks_rows:
            fed["wanted"] = np.zeros(1, np.int64)
        results = run({**fed, **caches, **cross})
        caches = {f"past_{part}": results[f"present_{part}"] for part in parts}
        is_in_prefix = length + 1 < len(prefix)
        token = prefix[length + 1] if is_in_prefix else int(results["next_tokens"][0, 0])
        if token == sizes.eos and not is_in_prefix:
            return
