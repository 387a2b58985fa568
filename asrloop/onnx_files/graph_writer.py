"""Small writer for ONNX graphs: nodes are added in the order they run, values are referred to by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 21
IR_VERSION = 10
CONTRIB = "com.microsoft"  # ONNX Runtime's own operators
ELEMENT_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
}
Shape = Sequence[int | str]


class GraphWriter:
    """Collects nodes, constants, inputs and outputs, then makes the model."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []

    def input(self, name: str, dtype: type[np.generic], shape: Shape) -> str:
        """Declare an input of the model."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, name: str, dtype: type[np.generic], shape: Shape) -> str:
        """Declare the value ``name`` as an output of the model."""
        self._outputs.append(_value(name, dtype, shape))
        return name

    def constant(self, name: str, value: NDArray[Any] | float | int, dtype: type[np.generic] | None = None) -> str:
        """Store ``value`` under ``name``. Raises ValueError when the name has another value already."""
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        tensor = numpy_helper.from_array(array, name)
        if self._constants.setdefault(name, tensor) != tensor:
            raise ValueError(f"constant {name!r} is already stored with another value")
        return name

    def has(self, name: str) -> bool:
        """True when a node already outputs ``name``."""
        return any(name in node.output for node in self._nodes)

    def node(self, operator: str, inputs: Sequence[str], name: str, *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output of the same name."""
        return self.nodes(operator, inputs, [name], domain=domain, **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs, named after the first; an empty name omits an optional output."""
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return list(outputs)

    def model(self, name: str) -> ModelProto:
        """Return the model of everything added so far."""
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, producer_name="asrloop", ir_version=IR_VERSION)


def with_outputs(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """Return a copy of ``model`` that also outputs the f32 values ``names``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(_value(name, np.float32, ()) for name in names)
    for value in copy.graph.output[-len(names) :] if names else ():
        value.type.tensor_type.ClearField("shape")  # any shape
    return copy


def _value(name: str, dtype: type[np.generic], shape: Shape) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[np.dtype(dtype)], list(shape))
