"""The decoder graph is cut where frames and tokens meet; where that is not possible, the whole graph serves."""

from pathlib import Path

import onnx
import pytest
from asrloop_train import random_transducer
from onnx import helper

from asrloop.families.transducer.decoders import WholeDecoder
from asrloop.families.transducer.split_joint import NotSplittable, split
from tests.families.conftest import Samples
from tests.families.transducer.conftest import SLOTS, Open
from tests.families.transducer.decoding import decode, decode_by_the_book


def unsplittable(directory: Path) -> None:
    """Make the prediction network hear the frames too, by something that adds nothing."""
    path = directory / "decoder_joint-model.onnx"
    model = onnx.load(path)
    nodes = list(model.graph.node)
    gather = next(index for index, node in enumerate(nodes) if node.op_type == "Gather")
    axes = helper.make_node("Constant", [], ["hear_axes"], value_ints=[1, 2])
    zero = helper.make_node("Constant", [], ["hear_zero"], value_float=0.0)
    total = helper.make_node("ReduceSum", ["encoder_outputs", "hear_axes"], ["hear_total"], keepdims=1)
    nothing = helper.make_node("Mul", ["hear_total", "hear_zero"], ["hear_nothing"])
    add = helper.make_node("Add", ["embedded", "hear_nothing"], ["embedded_and_heard"])
    for node in nodes[gather + 1 :]:
        node.input[:] = ["embedded_and_heard" if name == "embedded" else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend([*nodes[: gather + 1], axes, zero, total, nothing, add, *nodes[gather + 1 :]])
    onnx.save(model, path)


def test_each_part_holds_only_its_own(small_tdt: Path) -> None:
    frames, prediction, joint, _ = split(onnx.load(small_tdt / "decoder_joint-model.onnx"))
    assert [value.name for value in frames.graph.input] == ["encoder_outputs"]
    assert not [node for node in joint.graph.node if node.op_type == "LSTM"]
    assert len([node for node in prediction.graph.node if node.op_type == "LSTM"]) == 2
    weights = [{tensor.name for tensor in part.graph.initializer} for part in (frames, prediction, joint)]
    assert not weights[0] & weights[1]
    assert not weights[1] & weights[2]


def test_a_graph_that_cannot_be_cut_is_refused(small_tdt: Path, tmp_path: Path) -> None:
    random_transducer.write(tmp_path, random_transducer.Sizes(32, 2, 24, 16, 40, 5))
    unsplittable(tmp_path)
    with pytest.raises(NotSplittable, match=r"output_states|frames meet tokens"):
        split(onnx.load(tmp_path / "decoder_joint-model.onnx"))


def test_a_graph_that_cannot_be_cut_serves_whole(open_directory: Open, cuts: list[Samples], tmp_path: Path) -> None:
    random_transducer.write(tmp_path, random_transducer.Sizes(32, 2, 24, 16, 40, 5))
    unsplittable(tmp_path)
    family = open_directory(tmp_path)
    assert isinstance(family.decoder, WholeDecoder)
    expected = [decode_by_the_book(tmp_path, family, samples) for samples in cuts[:8]]
    assert decode(family, cuts[:8], SLOTS) == expected
