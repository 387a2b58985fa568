"""Reader of ONNX Runtime's ``.ort`` flatbuffer format. The ``onnx.ModelProto`` has the same nodes, fused operators and
subgraphs, so that ONNX tools can open it and weights can be read by name."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnxruntime.tools.ort_format_model.ort_flatbuffers_py import fbs


def to_onnx(path: Path) -> ModelProto:
    """Convert the ``.ort`` file at ``path``. Raises ValueError when it is not an ORT-format model or has features that this
    reader does not support (sparse or external tensors)."""
    data = path.read_bytes()
    if data[4:8] != b"ORTM":
        raise ValueError(f"{path} is not an ORT-format model: its identifier is {data[4:8]!r}, not b'ORTM'")
    stored = fbs.InferenceSession.InferenceSession.GetRootAs(data, 0).Model()
    opsets = [stored.OpsetImport(i) for i in range(stored.OpsetImportLength())]
    return helper.make_model(
        _graph(stored.Graph(), path.stem, outer=set()),
        opset_imports=[helper.make_opsetid(_text(opset.Domain()), opset.Version()) for opset in opsets],
        producer_name="asrloop",
        ir_version=stored.IrVersion(),
    )


def _graph(graph: Any, name: str, outer: set[str]) -> GraphProto:
    """Convert a graph; ``outer`` has the values of the enclosing graphs that its nodes may use."""
    initializers = [_tensor(graph.Initializers(i)) for i in range(graph.InitializersLength())]
    constants = {tensor.name for tensor in initializers}
    types = {info.name: info for info in (_value_info(graph.NodeArgs(i)) for i in range(graph.NodeArgsLength()))}
    inputs = [_text(graph.Inputs(i)) for i in range(graph.InputsLength())]
    outputs = [_text(graph.Outputs(i)) for i in range(graph.OutputsLength())]
    known = outer | constants | set(inputs)
    stored = [graph.Nodes(i) for i in range(graph.NodesLength())]
    produced = {_text(node.Outputs(i)) for node in stored for i in range(node.OutputsLength())}
    nodes = [_node(node, outer=known | produced) for node in stored]
    needs = [
        {_text(node.ImplicitInputs(i)) for i in range(node.ImplicitInputsLength())} | set(_inputs(node))
        for node in stored
    ]
    return helper.make_graph(
        _in_order(nodes, needs, known),
        name,
        [types[name] for name in inputs if name not in constants],
        [types[name] for name in outputs],
        initializers,
    )


def _in_order(nodes: list[NodeProto], needs: list[set[str]], known: set[str]) -> list[NodeProto]:
    """Sort nodes after their inputs, as ONNX requires; the format stores them by index. The order is stable."""
    ordered: list[NodeProto] = []
    known = known | {""}
    waiting = list(zip(nodes, needs, strict=True))
    while waiting:
        ready = [node for node, need in waiting if need <= known]
        if not ready:
            raise ValueError(f"nodes use values that no node outputs: {[node.name for node, _ in waiting][:5]}")
        waiting = [(node, need) for node, need in waiting if not need <= known]
        ordered += ready
        known |= {output for node in ready for output in node.output}
    return ordered


def _node(node: Any, outer: set[str]) -> NodeProto:
    name, outputs = _text(node.Name()), [_text(node.Outputs(i)) for i in range(node.OutputsLength())]
    outer = outer - set(outputs)  # a subgraph may name its own values like the outputs of the node that holds it
    made = helper.make_node(
        _text(node.OpType()),
        _inputs(node),
        outputs,
        name=name,
        domain=_text(node.Domain()),
    )
    made.attribute.extend(_attribute(node.Attributes(i), name, outer) for i in range(node.AttributesLength()))
    return made


def _inputs(node: Any) -> list[str]:
    return [_text(node.Inputs(i)) for i in range(node.InputsLength())]


def _attribute(attribute: Any, node_name: str, outer: set[str]) -> AttributeProto:
    name, kind = _text(attribute.Name()), attribute.Type()
    value: Any
    if kind == AttributeProto.FLOAT:
        value = attribute.F()
    elif kind == AttributeProto.INT:
        value = attribute.I()
    elif kind == AttributeProto.STRING:
        value = _text(attribute.S())
    elif kind == AttributeProto.TENSOR:
        value = _tensor(attribute.T())
    elif kind == AttributeProto.GRAPH:
        value = _graph(attribute.G(), f"{node_name}/{name}", outer)
    elif kind == AttributeProto.FLOATS:
        value = [attribute.Floats(i) for i in range(attribute.FloatsLength())]
    elif kind == AttributeProto.INTS:
        value = [attribute.Ints(i) for i in range(attribute.IntsLength())]
    elif kind == AttributeProto.STRINGS:
        value = [_text(attribute.Strings(i)) for i in range(attribute.StringsLength())]
    else:
        raise ValueError(
            f"attribute {name!r} of node {node_name!r} has type {kind}, which this reader does not support"
        )
    return helper.make_attribute(name, value, attr_type=kind)


def _tensor(tensor: Any) -> TensorProto:
    name, shape = _text(tensor.Name()), [tensor.Dims(i) for i in range(tensor.DimsLength())]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.DataType())
    if tensor.RawDataLength():
        values: NDArray[Any] = np.frombuffer(tensor.RawDataAsNumpy().tobytes(), dtype).reshape(shape)
    elif 0 in shape:
        values = np.zeros(shape, dtype)
    else:
        raise ValueError(f"tensor {name!r} of shape {shape} has no data: external data is not supported")
    return numpy_helper.from_array(values, name)


def _value_info(arg: Any) -> ValueInfoProto:
    name, info = _text(arg.Name()), arg.Type()
    if info is None or info.ValueType() != 1:  # 1: a dense tensor
        return ValueInfoProto(name=name)
    tensor_type = fbs.TensorTypeAndShape.TensorTypeAndShape()
    tensor_type.Init(info.Value().Bytes, info.Value().Pos)
    shape = tensor_type.Shape()
    dimensions = None if shape is None else [_dimension(shape.Dim(i).Value()) for i in range(shape.DimLength())]
    return helper.make_tensor_value_info(name, tensor_type.ElemType(), dimensions)


def _dimension(value: Any) -> int | str | None:
    """Convert a dimension: a number, a name, or None where unknown."""
    if value.DimType() == 1:
        return int(value.DimValue())
    return _text(value.DimParam()) if value.DimType() == 2 else None


def _text(raw: bytes | None) -> str:
    return raw.decode() if raw else ""


def nodes(graph: GraphProto) -> Iterable[NodeProto]:
    """Yield every node of ``graph`` and of its subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def initializers(graph: GraphProto) -> dict[str, NDArray[Any]]:
    """Return every initializer of ``graph`` and of its subgraphs by name; in ORT-format models names are unique."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= initializers(attribute.g)
    return found
