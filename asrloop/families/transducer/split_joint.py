"""Splits NeMo's ``decoder_joint`` graph by its data flow, so that a blank frame does not run the prediction network again.

The graph joins nodes that depend on the encoder's frames alone with nodes that depend on tokens and states alone. Cut where
the two meet, it gives ``frames``, run once an utterance, ``prediction``, run once a token, and ``joint``, run for a window of
frames at a time.
"""

from collections.abc import Iterable
from typing import NamedTuple

import onnx
from onnx import helper

FRAMES_INPUT = "encoder_outputs"
LOGITS_OUTPUT = "outputs"
STATE_OUTPUTS = ("output_states_1", "output_states_2")

FRAMES_PART = "frames_part"
TOKENS_PART = "tokens_part"


class SplitGraphs(NamedTuple):
    """Parts of the graph.

    ``frames``: ``encoder_outputs`` to ``frames_part``. ``prediction``: the other inputs of the whole to ``tokens_part``
    and ``output_states_*``. ``joint``: ``frames_part`` and ``tokens_part`` to ``outputs``. ``prediction_joint``: both of these
    in one, with the inputs and outputs of both but for the joint's ``tokens_part``.
    """

    frames: onnx.ModelProto
    prediction: onnx.ModelProto
    joint: onnx.ModelProto
    prediction_joint: onnx.ModelProto


class NotSplittable(ValueError):
    """Raised where the data flow has no single place to cut; the message says why. The unsplit graph still serves."""


def split(model: onnx.ModelProto) -> SplitGraphs:
    """Cut ``model`` (a ``decoder_joint`` with its weights inside) in three; raises NotSplittable.

    The caller must check, by running both, that the parts together give what the whole gives.
    """
    nodes = model.graph.node
    weights = {initializer.name for initializer in model.graph.initializer}
    token_inputs = [value.name for value in model.graph.input if value.name not in weights | {FRAMES_INPUT}]
    from_frames = _reached(nodes, {FRAMES_INPUT})
    from_tokens = _reached(nodes, set(token_inputs))
    joined = from_frames & from_tokens
    met = {name for node in nodes if joined.intersection(node.output) for name in _inputs(node)} - joined
    frames_part, tokens_part = met & from_frames, met & from_tokens
    if len(frames_part) != 1 or len(tokens_part) != 1 or met & {FRAMES_INPUT, *token_inputs}:
        raise NotSplittable(
            f"frames meet tokens at {sorted(frames_part)} and {sorted(tokens_part)}, not at one inner tensor each"
        )
    if LOGITS_OUTPUT not in joined or joined.intersection(STATE_OUTPUTS):
        raise NotSplittable(
            f"{LOGITS_OUTPUT} must depend on frames and tokens, and {', '.join(STATE_OUTPUTS)} on tokens alone"
        )
    names = {frames_part.pop(): FRAMES_PART, tokens_part.pop(): TOKENS_PART}
    renamed = _rename(model, names)
    return SplitGraphs(
        frames=_part(renamed, [FRAMES_INPUT], [FRAMES_PART]),
        prediction=_part(renamed, token_inputs, [TOKENS_PART, *STATE_OUTPUTS]),
        joint=_part(renamed, [FRAMES_PART, TOKENS_PART], [LOGITS_OUTPUT]),
        prediction_joint=_part(renamed, [FRAMES_PART, *token_inputs], [LOGITS_OUTPUT, TOKENS_PART, *STATE_OUTPUTS]),
    )


def _reached(nodes: Iterable[onnx.NodeProto], sources: set[str]) -> set[str]:
    """Return the tensors that depend on ``sources``. Nodes of an ONNX graph are in topological order."""
    reached = set(sources)
    for node in nodes:
        if reached.intersection(_inputs(node)):
            reached.update(name for name in node.output if name)
    return reached


def _inputs(node: onnx.NodeProto) -> set[str]:
    """Return the tensors that the node reads, and those that the subgraphs of an If, Loop or Scan read from outside."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
            inner = {value.name for value in [*graph.input, *graph.initializer]}
            inner.update(name for child in graph.node for name in child.output)
            outer = {output.name for output in graph.output}
            names |= outer.union(*(_inputs(child) for child in graph.node)) - inner
    return names


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    for node in renamed.graph.node:
        if names.keys() & (_inputs(node) - set(node.input)):
            raise NotSplittable(f"the subgraph of {node.op_type} {node.name} reads a tensor at the cut")
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return renamed


def _part(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """Return a model of the nodes that ``outputs`` need, back to ``inputs``, with their weights."""
    needed, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed |= _inputs(node) - set(inputs)
    known = {value.name: value for value in [*model.graph.input, *model.graph.output]}
    read = set().union(*(_inputs(node) for node in nodes))
    return helper.make_model(
        helper.make_graph(
            nodes[::-1],
            "part",
            [known.get(name, _untyped(name)) for name in inputs],
            [known.get(name, _untyped(name)) for name in outputs],
            [initializer for initializer in model.graph.initializer if initializer.name in read],
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        functions=model.functions,
    )


def _untyped(name: str) -> onnx.ValueInfoProto:
    """Describe a float tensor of any shape: the rank at the cut is the model's own."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
