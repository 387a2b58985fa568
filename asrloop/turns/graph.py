"""Makes the graph of the turn detector from the network that Smart Turn's authors publish.

The log-mel features are put in front of it. Its activations have one constant scale a layer, which rounds so much away that noise
of 1e-5 in the features moves a probability from 0.37 to 0.70. Here every row has a scale of its own: steadier, right more often,
and faster (docs/turns.md).
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from asrloop import paths, wheels
from asrloop.families.features.whisper_mel import whisper_mel
from asrloop.families.quantize.layer import Linear
from asrloop.families.quantize.linear import LinearWriter, RowInt8
from asrloop.onnx_files.graph_writer import GraphWriter
from asrloop.turns.detector import SAMPLES
from asrloop.wheels import TURN_DETECTOR

_BANDS = 80
_LEAST_VARIANCE = 1e-7
BY_ROWS = RowInt8(None, 64, axis=1)
"""Up to weights of 64 products are exact on every processor."""

_LEAST_SIZE = 256
"""Smaller layers stay in fp32."""


def provide(stream: Path) -> None:
    """Make the turn detector in ``stream``, ``asr_stream/1``, if that exists. Raises OSError, ValueError and WheelError."""
    if stream.is_dir():
        write_turn_graph(wheels.turn_network(paths.cache()), stream / TURN_DETECTOR)


def write_turn_graph(network: Path, target: Path, write: LinearWriter = BY_ROWS) -> None:
    """Write ``target``, `samples` f32 [1, 128000] -> `probability` f32 [1, 1], from ``network``, `input_features` -> `logits`.

    ``write`` writes its large layers. Raises ValueError where ``network`` is another one.
    """
    theirs = onnx.load(network).graph
    ends = [value.name for value in (*theirs.input, *theirs.output)]
    if ends != ["input_features", "logits"]:
        raise ValueError(f"{network} has {', '.join(ends)}: it must have input_features and logits")
    graph = GraphWriter()
    samples = graph.input("samples", np.float32, (1, SAMPLES))
    stored = {one.name: numpy_helper.to_array(one) for one in theirs.initializer}
    now = {"input_features": whisper_mel(graph, _level(graph, samples), _BANDS)}
    """What stands here for a value of theirs."""
    for node in theirs.node:
        inputs = [now.get(name, name) for name in node.input]
        if node.op_type == "QuantizeLinear" or (node.op_type == "DequantizeLinear" and inputs[0] not in stored):
            now[node.output[0]] = inputs[0]
        elif node.op_type == "DequantizeLinear":
            stored[node.output[0]] = _restored(node, stored)
        elif node.op_type == "MatMul" and inputs[1] in stored and min(stored[inputs[1]].shape) >= _LEAST_SIZE:
            write(graph, inputs[0], Linear(stored[inputs[1]]), node.output[0])
        else:
            for name in inputs:
                if name in stored:
                    graph.constant(name, stored[name])
            graph.nodes(node.op_type, inputs, node.output, **_attributes(node))
    graph.node("Identity", ["logits"], "probability")
    graph.output("probability", np.float32, (1, 1))
    part = target.with_name(f".{target.name}.part")
    onnx.save(graph.model("turn_detector"), part)
    part.rename(target)


def _level(graph: GraphWriter, samples: str) -> str:
    """Write audio with a mean of 0 and a variance of 1."""
    centred = graph.node("Sub", [samples, graph.node("ReduceMean", [samples], "wave.mean")], "wave.centred")
    squared = graph.node("Mul", [centred, centred], "wave.squared")
    variance = graph.node("ReduceMean", [squared], "wave.variance")
    least = graph.constant("wave.least", _LEAST_VARIANCE, np.float32)
    scale = graph.node("Sqrt", [graph.node("Add", [variance, least], "wave.power")], "wave.scale")
    return graph.node("Div", [centred, scale], "wave")


def _restored(node: NodeProto, stored: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Return the weights that stored integers stand for."""
    values, scale = stored[node.input[0]], stored[node.input[1]]
    axis = _attributes(node).get("axis", 0)
    shape = [-1 if each == axis else 1 for each in range(values.ndim)] if scale.ndim else scale.shape
    return np.asarray(values * scale.reshape(shape), np.float32)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}
