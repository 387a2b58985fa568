"""Reads Moonshine weights from the ``.ort`` files of the moonshine-voice package, whose linear layers are u8 with one scale
and zero point a matrix."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.families.moonshine.weights import MoonshineConfig, MoonshineWeights
from asrloop.families.quantize.layer import Array, Attention, DecoderLayer, EncoderLayer, Linear, Quantized
from asrloop.onnx_files.ort_format import initializers, nodes, to_onnx

ENCODER_FILE = "encoder_model.ort"
DECODER_FILE = "decoder_model_merged.ort"
DECODER = "/model/decoder"
HEADS = 8  # the files hold it only as a constant of a reshape


def read(directory: Path) -> MoonshineWeights:
    """Read the two model files in ``directory``."""
    encoder, decoder = _Graph(directory / ENCODER_FILE), _Graph(directory / DECODER_FILE)
    head = decoder.linear("/proj_out")
    hidden_size, vocabulary_size = head.matrix.shape
    config = MoonshineConfig(
        hidden_size=hidden_size,
        heads=HEADS,
        encoder_layers=encoder.layer_count(""),
        decoder_layers=decoder.layer_count(DECODER),
        vocabulary_size=vocabulary_size,
        rotary_size=2 * encoder.rotary_frequencies(hidden_size // HEADS),
    )
    group_norm_scale, group_norm_bias = encoder.constant_of("/groupnorm/Mul"), encoder.constant_of("/groupnorm/Add")
    return MoonshineWeights(
        config=config,
        conv1=encoder.values["conv1.weight_add_tensor"],
        group_norm_scale=group_norm_scale.reshape(-1),
        group_norm_bias=group_norm_bias.reshape(-1),
        conv2=encoder.values["conv2.weight_add_tensor"],
        conv2_bias=encoder.values["conv2.bias"],
        conv3=encoder.values["conv3.weight_add_tensor"],
        conv3_bias=encoder.values["conv3.bias"],
        encoder_layers=tuple(_encoder_layer(encoder, f"/layers.{i}") for i in range(config.encoder_layers)),
        encoder_norm=encoder.values["layer_norm.weight"],
        embedding=np.ascontiguousarray(head.matrix.T),
        decoder_layers=tuple(_decoder_layer(decoder, f"{DECODER}/layers.{i}") for i in range(config.decoder_layers)),
        decoder_norm=decoder.constant_of(f"{DECODER}/norm/LayerNormalization"),
        head=head,
    )


class _Graph:
    """Named constants of one file, and the nodes that use them."""

    def __init__(self, path: Path) -> None:
        graph = to_onnx(path).graph
        self.path = path
        self.nodes = {node.name: node for node in nodes(graph)}
        self.values: dict[str, NDArray[Any]] = initializers(graph)

    def constant_of(self, node_name: str) -> Array:
        """Return the first constant input of a node: of a layer norm its scale, which a bias of 0 follows."""
        found = [self.values[name] for name in self.nodes[node_name].input if name in self.values]
        if not found:
            raise ValueError(f"{self.path}: node {node_name!r} has no constant input")
        return found[0]

    def linear(self, name: str) -> Linear:
        node = self.nodes[f"{name}/MatMul_quant"]
        # The first operator quantizes its input itself, the second gets it with its own scale and zero point in between.
        places = {"DynamicQuantizeMatMul": (1, 2, 3, 4), "MatMulIntegerToFloat": (1, 3, 5, 6)}[node.op_type]
        inputs = [node.input[place] if place < len(node.input) else "" for place in places]
        values, scale, zero_point = (self.values[name] for name in inputs[:3])
        columns = values.shape[1]
        bias = self.values[inputs[3]] if inputs[3] else None
        return Linear.from_quantized(
            Quantized(values, np.full(columns, scale, np.float32), np.full(columns, zero_point, np.uint8)), bias
        )

    def attention(self, name: str) -> Attention:
        return Attention(*(self.linear(f"{name}/{part}_proj") for part in "qkvo"))

    def layer_count(self, prefix: str) -> int:
        matches = (re.match(rf"{prefix}/layers\.(\d+)/", name) for name in self.nodes)
        return 1 + max(int(match[1]) for match in matches if match)

    def rotary_frequencies(self, head_size: int) -> int:
        """Return the number of rotary frequencies: the size of the one constant vector that falls from 1."""
        for value in self.values.values():
            if value.dtype == np.float32 and 1 < value.size <= head_size // 2:
                flat = value.reshape(-1)
                if flat[0] == 1 and bool(np.all(np.diff(flat) < 0)) and flat[-1] > 0:
                    return int(flat.size)
        raise ValueError(f"{self.path}: no rotary frequencies found")


def _encoder_layer(graph: _Graph, name: str) -> EncoderLayer:
    return EncoderLayer(
        attention_norm=graph.constant_of(f"{name}/input_layernorm/LayerNormalization"),
        attention=graph.attention(f"{name}/self_attn"),
        mlp_norm=graph.constant_of(f"{name}/post_attention_layernorm/LayerNormalization"),
        fc1=graph.linear(f"{name}/mlp/fc1"),
        fc2=graph.linear(f"{name}/mlp/fc2"),
    )


def _decoder_layer(graph: _Graph, name: str) -> DecoderLayer:
    return DecoderLayer(
        attention_norm=graph.constant_of(f"{name}/input_layernorm/LayerNormalization"),
        attention=graph.attention(f"{name}/self_attn"),
        cross_norm=graph.constant_of(f"{name}/post_attention_layernorm/LayerNormalization"),
        cross_attention=graph.attention(f"{name}/encoder_attn"),
        mlp_norm=graph.constant_of(f"{name}/final_layernorm/LayerNormalization"),
        fc1=graph.linear(f"{name}/mlp/fc1"),
        fc2=graph.linear(f"{name}/mlp/fc2"),
    )
