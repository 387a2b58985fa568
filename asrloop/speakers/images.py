"""Rewrites a graph's convolutions over time as convolutions over images of one line.

ONNX Runtime computes those faster, and takes the absolute value of their outputs in the same pass.
"""

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

_LINE = "images.line"


def as_images(graph: GraphProto) -> list[str]:
    """Rewrite each convolution over time in ``graph``, with the absolute value and the pooling behind it, as one over images.

    Returns the names of the convolutions, in order. What the graph computes stays the same but for the order of sums.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    names = []
    left = [_only_way(node) if node.op_type == "If" else node for node in graph.node]
    while left:
        node = left.pop(0)
        if node.op_type != "Conv":
            nodes.append(node)
            continue
        chain = [node]
        while left and left[0].op_type in ("Abs", "MaxPool"):
            chain.append(left.pop(0))
        nodes += _of_one_line(chain)
        names.append(node.name)
        kernel = weights[node.input[1]]
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel)[:, :, None], kernel.name))
    graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), _LINE))
    del graph.value_info[:]  # shapes that were found before
    _put(graph, nodes)
    return names


def _only_way(node: NodeProto) -> NodeProto:
    """Return the convolution of a node that decides whether there is a batch: there is."""
    convolution: NodeProto = next(one.g.node[0] for one in node.attribute if one.name == "then_branch")
    convolution.name, convolution.output[0] = node.name, node.output[0]
    return convolution


def _of_one_line(chain: list[NodeProto]) -> list[NodeProto]:
    """Return nodes that make an image, run ``chain`` on it, and take its line out again."""
    first, last = chain[0], chain[-1]
    into = helper.make_node("Unsqueeze", [first.input[0], _LINE], [f"{first.name}.image"], name=f"{first.name}.image")
    out = helper.make_node("Squeeze", [f"{first.name}.done", _LINE], [last.output[0]], name=f"{first.name}.done")
    first.input[0], last.output[0] = into.output[0], out.input[0]
    return [into, *map(_over_images, chain), out]


def _over_images(node: NodeProto) -> NodeProto:
    if node.op_type == "Abs":  # a convolution computes this one as part of itself
        return helper.make_node("LeakyRelu", list(node.input), list(node.output), name=node.name, alpha=-1.0)
    for one in node.attribute:
        if one.name in ("kernel_shape", "strides", "dilations"):
            one.ints.insert(0, 1)
        elif one.name == "pads":
            one.ints[:] = [0, one.ints[0], 0, one.ints[1]]
    return node


def _put(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Let ``graph`` have ``nodes``, and of them and of its constants what is used."""
    used = {one.name for one in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if used.intersection(node.output):
            used.update(node.input)
            kept.insert(0, node)
    del graph.node[:]
    graph.node.extend(kept)
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)
