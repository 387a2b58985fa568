"""The Moonshine encoder as an ONNX graph: audio in, the cross-attention K/V of every decoder layer out.

Inputs
    audio             f32 [1, samples]    16 kHz mono, at least ``minimum_samples()``
Outputs
    cross_key_l, cross_value_l        f32 or s8 [1, heads, frames, cross_head_size], one pair a decoder layer

The batch is 1: the group norm spans the whole utterance, so padding would change the result.
"""

import numpy as np
from onnx import ModelProto

from asrloop.families.graphs.encoder_layers import EncoderWriter
from asrloop.families.moonshine.decoder_graph import cross_head_size
from asrloop.families.moonshine.decoding import MAX_FRAMES
from asrloop.families.moonshine.weights import MoonshineConfig, MoonshineWeights
from asrloop.families.quantize.linear import LinearWriter
from asrloop.onnx_files.graph_writer import CONTRIB, GraphWriter

STRIDES = (64, 3, 2)
WIDTHS = (127, 7, 3)


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
    encoded = parts.layers(weights.encoder_layers, weights.encoder_norm, parts.convolutions(weights))
    parts.cross_keys_and_values(weights.decoder_layers, encoded, config.heads, cross_head_size(config), integer=compact)
    return graph.model("moonshine_encoder")


class _Encoder(EncoderWriter):
    """Writes the parts of the encoder into ``graph``."""

    def __init__(self, graph: GraphWriter, config: MoonshineConfig, linear: LinearWriter) -> None:
        super().__init__(graph, linear, config.heads, config.head_size, config.norm_epsilon)
        self.config = config

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

    def group_norm(self, maps: str) -> str:
        """Normalise by mean and variance over all channels and times, as one group."""
        graph = self.graph
        flat = graph.node("Reshape", [maps, graph.constant("one_group", np.array([1, 1, -1]))], "group_norm.flat")
        unit, zero = graph.constant("unit", np.ones(1, np.float32)), graph.constant("zero", np.zeros(1, np.float32))
        normed = graph.node(
            "InstanceNormalization", [flat, unit, zero], "group_norm.normed", epsilon=self.config.norm_epsilon
        )
        return graph.node("Reshape", [normed, graph.node("Shape", [maps], "group_norm.shape")], "group_norm")

    def placed(self, x: str) -> str:
        """Rotate queries and keys by position."""
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
