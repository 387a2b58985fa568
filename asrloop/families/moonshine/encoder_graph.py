"""The Moonshine encoder as an ONNX graph: audio in, the cross-attention K/V of every decoder layer out.

Inputs
    audio             f32 [1, samples]    16 kHz mono, at least ``minimum_samples()``
Outputs
    cross_key_l, cross_value_l        f32 or s8 [1, heads, frames, cross_head_size], one pair a decoder layer

The batch is 1: the group norm spans the whole utterance, so padding would change the result.
"""

import numpy as np
from onnx import ModelProto

from asrloop.families.moonshine.decoder_graph import cross_head_size
from asrloop.families.moonshine.weights import EncoderLayer, MoonshineConfig, MoonshineWeights
from asrloop.families.quantize.layer import Array, Linear, side_by_side
from asrloop.families.quantize.linear import LinearWriter, Windows
from asrloop.onnx_files.graph_writer import CONTRIB, GraphWriter

STRIDES = (64, 3, 2)
WIDTHS = (127, 7, 3)
MAX_FRAMES = 4096
"""Positions of the rotary tables: 98 seconds of audio."""


def frame_count(samples: int) -> int:
    """Return the number of frames that the three convolutions make of ``samples``; 0 or less when they are too few."""
    for width, stride in zip(WIDTHS, STRIDES, strict=True):
        samples = (samples - width) // stride + 1
    return samples


def minimum_samples(frames: int = 1) -> int:
    """Return the smallest number of samples that gives ``frames`` frames."""
    for width, stride in zip(reversed(WIDTHS), reversed(STRIDES), strict=True):
        frames = (frames - 1) * stride + width
    return frames


def encoder(weights: MoonshineWeights, linear: LinearWriter, compact: bool = False) -> ModelProto:
    """Return the graph of the encoder and of the projections of its result to every decoder layer's K and V. A ``compact``
    one rounds these to s8; the weights must already give them in -127..127."""
    config = weights.config
    graph = GraphWriter()
    graph.input("audio", np.float32, [1, "samples"])
    parts = _Encoder(graph, config, linear)
    hidden = parts.convolutions(weights)
    normed = parts.norm(hidden, weights.encoder_layers[0].attention_norm, "layer0.attention_norm")
    norms = [layer.attention_norm for layer in weights.encoder_layers[1:]] + [weights.encoder_norm]
    for index, (layer, following_norm) in enumerate(zip(weights.encoder_layers, norms, strict=True)):
        hidden, normed = parts.layer(layer, hidden, normed, following_norm, f"layer{index}")
    parts.cross_keys_and_values(weights, normed, integer=compact)
    return graph.model("moonshine_encoder")


class _Encoder:
    """Writes the parts of the encoder into ``graph``."""

    def __init__(self, graph: GraphWriter, config: MoonshineConfig, linear: LinearWriter) -> None:
        self.graph = graph
        self.config = config
        self.linear = linear

    def convolutions(self, weights: MoonshineWeights) -> str:
        """Turn samples into frames f32 [1, frames, hidden_size] by three strided convolutions."""
        graph = self.graph
        wave = graph.node("Unsqueeze", ["audio", graph.constant("axis", np.ones(1, np.int64))], "wave")
        maps = graph.node("Conv", [wave, graph.constant("conv1.weight", weights.conv1)], "conv1", strides=[STRIDES[0]])
        maps = self.group_norm(graph.node("Tanh", [maps], "conv1.tanh"))
        frames = graph.node("Transpose", [maps], "conv1.frames", perm=[0, 2, 1])
        frames = graph.node(
            "Mul", [frames, graph.constant("group_norm.scale", weights.group_norm_scale)], "group_norm.scaled"
        )
        # The norm's bias is the same for all times and goes into the second convolution, which has no padding.
        conv2_bias = weights.conv2_bias + np.einsum("oiw,i->o", weights.conv2, weights.group_norm_bias)
        frames = self.convolution(frames, weights.conv2, conv2_bias, STRIDES[1], "conv2")
        return self.convolution(frames, weights.conv3, weights.conv3_bias, STRIDES[2], "conv3")

    def convolution(self, frames: str, weight: Array, bias: Array, stride: int, name: str) -> str:
        """Write convolution and GELU over ``frames`` f32 [1, times, inputs], as one product with all windows laid flat."""
        outputs, inputs, width = weight.shape
        index = self.windows(frames, width, stride, f"{name}.windows")
        gathered = self.graph.node("Gather", [frames, index], f"{name}.gathered", axis=1)
        flat = self.graph.constant(f"{name}.flat", np.array([1, -1, width * inputs]))
        rows = self.graph.node("Reshape", [gathered, flat], f"{name}.rows")
        matrix = np.ascontiguousarray(weight.transpose(2, 1, 0)).reshape(width * inputs, outputs)
        result = self.linear(self.graph, rows, Linear(matrix, bias), name, Windows(frames, index))
        return self.graph.node("Gelu", [result], f"{name}.gelu", domain=CONTRIB)

    def windows(self, frames: str, width: int, stride: int, name: str) -> str:
        """Return the times in each window of ``width`` times, one window every ``stride``: i64 [windows, width]."""
        graph = self.graph

        def number(value: int) -> str:
            return graph.constant(f"number.{value}", value, np.int64)

        times = graph.node("Squeeze", [graph.node("Shape", [frames], f"{name}.shape", start=1, end=2)], f"{name}.times")
        last = graph.node("Sub", [times, number(width - 1)], f"{name}.last_start")
        starts = graph.node("Range", [number(0), last, number(stride)], f"{name}.starts")
        column = graph.node("Unsqueeze", [starts, graph.constant("axis", np.ones(1, np.int64))], f"{name}.column")
        taps = graph.constant(f"{name}.taps", np.arange(width))
        return graph.node("Add", [column, taps], name)

    def group_norm(self, maps: str) -> str:
        """Normalise by mean and variance over all channels and times, as one group."""
        graph = self.graph
        flat = graph.node("Reshape", [maps, graph.constant("one_group", np.array([1, 1, -1]))], "group_norm.flat")
        unit, zero = graph.constant("unit", np.ones(1, np.float32)), graph.constant("zero", np.zeros(1, np.float32))
        normed = graph.node(
            "InstanceNormalization", [flat, unit, zero], "group_norm.normed", epsilon=self.config.norm_epsilon
        )
        return graph.node("Reshape", [normed, graph.node("Shape", [maps], "group_norm.shape")], "group_norm")

    def layer(self, layer: EncoderLayer, hidden: str, normed: str, following_norm: Array, name: str) -> tuple[str, str]:
        """Add self-attention and MLP to ``hidden``. Returns ``hidden`` and its next norm."""
        attended = self.attention(layer, normed, f"{name}.attention")
        hidden = self.graph.node("Add", [hidden, attended], f"{name}.attended")
        normed = self.norm(hidden, layer.mlp_norm, f"{name}.mlp_norm")
        inner = self.linear(self.graph, normed, layer.fc1, f"{name}.fc1")
        inner = self.graph.node("Gelu", [inner], f"{name}.gelu", domain=CONTRIB)
        projected = self.linear(self.graph, inner, layer.fc2, f"{name}.fc2")
        hidden = self.graph.node("Add", [hidden, projected], f"{name}.hidden")
        return hidden, self.norm(hidden, following_norm, f"{name}.following_norm")

    def attention(self, layer: EncoderLayer, normed: str, name: str) -> str:
        """Let every frame attend to every frame; queries and keys are rotated by position."""
        config, attention = self.config, layer.attention
        query, key, value = (
            self.linear(self.graph, normed, part, f"{name}.{what}")
            for what, part in (("query", attention.query), ("key", attention.key), ("value", attention.value))
        )
        mixed = self.graph.node(
            "MultiHeadAttention",
            [self.rotate(query), self.rotate(key), value],
            f"{name}.mixed",
            domain=CONTRIB,
            num_heads=config.heads,
            scale=config.head_size**-0.5,
        )
        return self.linear(self.graph, mixed, attention.output, f"{name}.output")

    def rotate(self, x: str) -> str:
        cosines, sines = self.config.rotary_tables(MAX_FRAMES)
        tables = [self.graph.constant("cosines", cosines), self.graph.constant("sines", sines)]
        first = self.graph.constant("first_position", np.zeros(1, np.int64))
        return self.graph.node(
            "RotaryEmbedding",
            [x, first, *tables],
            f"{x}.rotated",
            domain=CONTRIB,
            num_heads=self.config.heads,
            rotary_embedding_dim=self.config.rotary_size,
            interleaved=1,
        )

    def norm(self, hidden: str, scale: Array, name: str) -> str:
        weight = self.graph.constant(f"{name}.scale", scale)
        return self.graph.node("LayerNormalization", [hidden, weight], name, axis=-1, epsilon=self.config.norm_epsilon)

    def cross_keys_and_values(self, weights: MoonshineWeights, encoded: str, integer: bool) -> None:
        """Compute all layers' K and V by one product and one transposition, then split them."""
        config, graph = self.config, self.graph
        size = cross_head_size(config)
        projections = [
            (f"cross_{part}_{index}", projection.pad_output_heads(config.heads, size))
            for index, layer in enumerate(weights.decoder_layers)
            for part, projection in (("key", layer.cross_attention.key), ("value", layer.cross_attention.value))
        ]
        names = [name for name, _ in projections]
        flat = self.linear(graph, encoded, side_by_side([projection for _, projection in projections]), "cross.flat")
        if integer:
            unit = [graph.constant("cross.unit", 1, np.float32), graph.constant("cross.zero_point", 0, np.int8)]
            flat = graph.node("QuantizeLinear", [flat, *unit], "cross.s8")
        split = graph.constant("split_heads", np.array([0, 0, len(names) * config.heads, size]))
        heads = graph.node("Reshape", [flat, split], "cross.heads")
        every = graph.node("Transpose", [heads], "cross", perm=[0, 2, 1, 3])
        graph.nodes("Split", [every], names, axis=1, num_outputs=len(names))
        for name in names:
            graph.output(name, np.int8 if integer else np.float32, [1, config.heads, "frames", size])
