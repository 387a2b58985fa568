"""The Whisper encoder as an ONNX graph: audio in, the cross-attention K/V of every decoder layer out.

Inputs
    audio             f32 [1, samples]    16 kHz mono, a multiple of SAMPLES_PER_FRAME, 30 s at most
Outputs
    cross_key_l, cross_value_l        f32 or s8 [1, heads, frames, cross_head_size], one pair a decoder layer
"""

import numpy as np
from onnx import ModelProto

from asrloop.families.features.whisper_mel import whisper_mel
from asrloop.families.graphs.encoder_layers import EncoderWriter
from asrloop.families.quantize.linear import LinearWriter
from asrloop.families.whisper.decoder_graph import cross_head_size
from asrloop.families.whisper.weights import NORM_EPSILON, WhisperWeights
from asrloop.onnx_files.graph_writer import CONTRIB, GraphWriter


def encoder(weights: WhisperWeights, linear: LinearWriter, compact: bool = False) -> ModelProto:
    """Return the graph of the encoder and of the projections of its result to every decoder layer's K and V. A ``compact``
    one rounds these to s8; the weights must already give them in -127..127."""
    config = weights.config
    graph = GraphWriter()
    graph.input("audio", np.float32, [1, "samples"])
    parts = EncoderWriter(graph, linear, config.encoder_heads, config.hidden_size // config.encoder_heads, NORM_EPSILON)
    mel = whisper_mel(graph, "audio", config.mels)
    encoded = parts.layers(weights.encoder_layers, weights.encoder_norm, _placed(graph, parts, weights, mel))
    parts.cross_keys_and_values(
        weights.decoder_layers, encoded, config.decoder_heads, cross_head_size(config), integer=compact
    )
    return graph.model("whisper_encoder")


def _placed(graph: GraphWriter, parts: EncoderWriter, weights: WhisperWeights, mel: str) -> str:
    """Turn features f32 [1, mels, times] into frames f32 [1, times / 2, hidden_size] that know their position."""
    first = [graph.constant("conv1.weight", weights.conv1), graph.constant("conv1.bias", weights.conv1_bias)]
    maps = graph.node("Conv", [mel, *first], "conv1", pads=[1, 1])
    times = graph.node(
        "Transpose", [graph.node("Gelu", [maps], "conv1.gelu", domain=CONTRIB)], "conv1.times", perm=[0, 2, 1]
    )
    before = graph.constant(
        "conv2.ends", np.array([0, 1, 0, 0, 0, 0])
    )  # with an even number no window reaches over the end
    padded = graph.node("Pad", [times, before], "conv2.padded")
    frames = parts.convolution(padded, weights.conv2, weights.conv2_bias, 2, "conv2")
    table = graph.constant("positions", weights.encoder_positions)
    count = graph.node("Shape", [frames], "frames", start=1, end=2)
    zero = graph.constant("first_position", np.zeros(1, np.int64))
    placed = graph.node("Slice", [table, zero, count, zero], "positions.used")
    return graph.node("Add", [frames, placed], "placed")
