"""What a graph computes stays the same when its convolutions over time become convolutions over images."""

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from asrloop.speakers.images import as_images


def test_a_graph_over_images_computes_the_same_and_keeps_nothing_that_is_not_used() -> None:
    draw = np.random.default_rng(0)
    model = small(draw.normal(size=(4, 1, 9)), draw.normal(size=(6, 4, 3)))
    waves = draw.normal(size=(2, 1, 200)).astype(np.float32)
    before = run(model, waves)
    assert as_images(model.graph) == ["whether", "second"]
    onnx.checker.check_model(model)
    assert "If" not in (operators := [node.op_type for node in model.graph.node])
    assert "Shape" not in operators
    assert {one.name for one in model.graph.initializer} >= {"sinc", "deep"}
    assert "three" not in {one.name for one in model.graph.initializer}
    np.testing.assert_allclose(run(model, waves), before, rtol=1e-5, atol=1e-5)


def run(model: onnx.ModelProto, waves: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(ort.InferenceSession(model.SerializeToString()).run(None, {"waves": waves})[0])


def small(sinc: NDArray[np.float64], deep: NDArray[np.float64]) -> onnx.ModelProto:
    """Return a graph as PyTorch writes it: two convolutions with poolings, the first only where there is a batch."""
    both = [
        helper.make_graph(
            [node], "way", [], [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, ["b", "c", "n"])]
        )
        for node in (
            helper.make_node("Conv", ["waves", "sinc"], ["one"], strides=[5], pads=[2, 1]),
            helper.make_node("Identity", ["waves"], ["other"]),
        )
    ]
    nodes = [
        helper.make_node("Shape", ["waves"], ["shape"]),
        helper.make_node("Size", ["shape"], ["rank"]),
        helper.make_node("Equal", ["rank", "three"], ["is_batch"]),
        helper.make_node("If", ["is_batch"], ["heard"], name="whether", then_branch=both[0], else_branch=both[1]),
        helper.make_node("Abs", ["heard"], ["loud"]),
        helper.make_node("MaxPool", ["loud"], ["pooled"], kernel_shape=[3], strides=[3]),
        helper.make_node("Tanh", ["pooled"], ["bent"]),
        helper.make_node("Conv", ["bent", "deep"], ["deeper"], name="second", dilations=[2], kernel_shape=[3]),
        helper.make_node("MaxPool", ["deeper"], ["out"], kernel_shape=[2], strides=[1]),
        helper.make_node("Identity", ["out"], ["result"]),
    ]
    constants = {"sinc": sinc.astype(np.float32), "deep": deep.astype(np.float32), "three": np.array(3)}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("waves", TensorProto.FLOAT, ["batch", 1, 200])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, ["batch", 6, "n"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
