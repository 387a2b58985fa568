"""The Moonshine decoder as an ONNX graph that decides one token for every row of a batch.

A row is an utterance with its own number of tokens and frames. Rows never see each other: both attentions read exactly
``lengths[row]`` cached tokens and ``frames[row]`` encoder frames, so rows of any length share a step without padding cost.

Inputs
    tokens            i64 [rows, 1]   the token decided last, BOS at first
    lengths           i32 [rows]      tokens already in the row's cache, 0 at first
    frames            i32 [rows]      valid frames of the row's cross K/V, at least 1
    past_key_l, past_value_l          f32 [rows, heads, token_capacity, cache_head_size], one pair a layer
    cross_key_l, cross_value_l        f32 or s8 [rows, heads, frame_capacity, cross_head_size], one pair a layer
Outputs
    next_tokens       i64 [rows, 1]   the most probable next token
    token_log_probs   f32 [rows, 1]   the natural logarithm of its probability
    log_probs         f32 [rows, 1, vocabulary]  the same of all tokens
    present_key_l, present_value_l    the caches with the new token written at position ``lengths[row]``
    kept_cross_key_l, kept_cross_value_l     only with s8 cross K/V: the inputs, unchanged, which the operator gives back
    layerL.cross.query                f32 [rows, 1, heads * cross_head_size], of each layer in alignment_heads: the queries of its
                                      cross-attention, scaled by nothing

Bind a present (or kept) output to the memory of its input and it is updated in place; run plainly and it is copied.
"""

import math
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from asrloop.families.attention.memory import query_name
from asrloop.families.moonshine.weights import DecoderLayer, MoonshineConfig, MoonshineWeights
from asrloop.families.quantize.layer import Array, side_by_side
from asrloop.families.quantize.linear import LinearWriter
from asrloop.onnx_files.graph_writer import CONTRIB, GraphWriter, Shape

MAX_TOKENS = 1024
"""Positions of the rotary tables: about 100 seconds of audio at 10 tokens a second."""

LOGITS_IN_BLOCK = 256
"""Logits of a block in the search for the greatest, where the size of the vocabulary is a multiple."""


def cache_head_size(config: MoonshineConfig) -> int:
    """Return the head size widened to a multiple of 16, the only sizes that GroupQueryAttention rotates."""
    return -(-config.head_size // 16) * 16


def cross_head_size(config: MoonshineConfig) -> int:
    """Return the head size widened to a multiple of 8, which GroupQueryAttention needs without rotation."""
    return -(-config.head_size // 8) * 8


def decoder_step(weights: MoonshineWeights, linear: LinearWriter, compact: bool = False) -> ModelProto:
    """Return the graph of one step. A ``compact`` one takes s8 cross K/V, in the units that the weights expect, and holds the
    embedding in f16."""
    config = weights.config
    graph = GraphWriter()
    step = _Step(graph, config, linear, integer_cross=compact)
    tokens = graph.input("tokens", np.int64, ["rows", 1])
    graph.input("lengths", np.int32, ["rows"])
    graph.input("frames", np.int32, ["rows"])
    graph.output("next_tokens", np.int64, ["rows", 1])
    graph.output("token_log_probs", np.float32, ["rows", 1])
    graph.output("log_probs", np.float32, ["rows", 1, config.vocabulary_size])
    step.declare_caches()
    for index in sorted({layer for layer, _ in config.alignment_heads}):
        graph.output(query_name(index), np.float32, ["rows", 1, config.heads * cross_head_size(config)])

    hidden = step.embed(weights.embedding, tokens, np.float16 if compact else np.float32)
    norms = [layer.attention_norm for layer in weights.decoder_layers[1:]] + [weights.decoder_norm]
    normed = step.norm(hidden, weights.decoder_layers[0].attention_norm, "layer0.attention_norm")
    step.write_lengths()
    for index, (layer, following_norm) in enumerate(zip(weights.decoder_layers, norms, strict=True)):
        hidden, normed = step.layer(index, layer, hidden, normed, following_norm)
    logits = linear(graph, normed, weights.head, "logits")
    step.decide(logits)
    return graph.model("moonshine_decoder_step")


class _Step:
    """Writes the parts of a step into ``graph``."""

    def __init__(self, graph: GraphWriter, config: MoonshineConfig, linear: LinearWriter, integer_cross: bool) -> None:
        self.graph = graph
        self.config = config
        self.linear = linear
        self.integer_cross = integer_cross
        self.scale = config.head_size**-0.5

    def embed(self, embedding: Array, tokens: str, dtype: type[np.floating[Any]]) -> str:
        table = self.graph.constant("embedding", embedding, dtype)
        rows = self.graph.node("Gather", [table, tokens], "embedding.rows")
        return self.graph.node("Cast", [rows], "embedded", to=TensorProto.FLOAT)

    def declare_caches(self) -> None:
        config = self.config
        cache: Shape = ["rows", config.heads, "token_capacity", cache_head_size(config)]
        cross: Shape = ["rows", config.heads, "frame_capacity", cross_head_size(config)]
        for index in range(config.decoder_layers):
            for part in ("key", "value"):
                self.graph.input(f"past_{part}_{index}", np.float32, cache)
                self.graph.output(f"present_{part}_{index}", np.float32, cache)
        for index in range(config.decoder_layers):
            for part in ("key", "value"):
                self.graph.input(f"cross_{part}_{index}", np.int8 if self.integer_cross else np.float32, cross)
                if self.integer_cross:
                    self.graph.output(f"kept_cross_{part}_{index}", np.int8, cross)

    def write_lengths(self) -> None:
        """Write what the attention operators need: each row's last valid position, and a bound on the lengths, the capacity."""
        graph = self.graph
        graph.node("Sub", ["frames", graph.constant("one", 1, np.int32)], "last_frame")
        for part, source in (("token_capacity", "past_key_0"), ("frame_capacity", "cross_key_0")):
            capacity = graph.node("Shape", [source], f"{part}.i64", start=2, end=3)
            scalar = graph.node("Squeeze", [capacity], f"{part}.scalar")
            graph.node("Cast", [scalar], part, to=TensorProto.INT32)
        cosines, sines = self.config.rotary_tables(MAX_TOKENS)
        graph.constant("cosines", cosines)
        graph.constant("sines", sines)

    def layer(
        self, index: int, layer: DecoderLayer, hidden: str, normed: str, following_norm: Array
    ) -> tuple[str, str]:
        """Add self-attention, cross-attention and MLP to ``hidden``. Returns ``hidden`` and its next norm."""
        name = f"layer{index}"
        attended = self.self_attention(index, layer, normed)
        hidden, normed = self.add_and_norm(hidden, attended, layer.cross_norm, f"{name}.cross_norm")
        attended = self.cross_attention(index, layer, normed)
        hidden, normed = self.add_and_norm(hidden, attended, layer.mlp_norm, f"{name}.mlp_norm")
        projected = self.mlp(layer, normed, name)
        return self.add_and_norm(hidden, projected, following_norm, f"{name}.following_norm")

    def self_attention(self, index: int, layer: DecoderLayer, normed: str) -> str:
        config, attention, name = self.config, layer.attention, f"layer{index}.attention"
        size = cache_head_size(config)
        parts = (attention.query, attention.key, attention.value)
        packed = side_by_side([part.pad_output_heads(config.heads, size) for part in parts])
        qkv = self.linear(self.graph, normed, packed, f"{name}.qkv")
        mixed = self.graph.nodes(
            "GroupQueryAttention",
            [qkv, "", "", f"past_key_{index}", f"past_value_{index}", "lengths", "token_capacity", "cosines", "sines"],
            [f"{name}.mixed", f"present_key_{index}", f"present_value_{index}"],
            domain=CONTRIB,
            num_heads=config.heads,
            kv_num_heads=config.heads,
            scale=self.scale,
            do_rotary=1,
            rotary_interleaved=1,
        )[0]
        return self.linear(self.graph, mixed, attention.output.pad_input_heads(config.heads, size), f"{name}.output")

    def cross_attention(self, index: int, layer: DecoderLayer, normed: str) -> str:
        """Attend to the cross K/V, given as the operator's past. Empty K and V tell it that no token is added."""
        config, attention, name = self.config, layer.cross_attention, f"layer{index}.cross"
        size = cross_head_size(config)
        query = self.linear(self.graph, normed, attention.query.pad_output_heads(config.heads, size), f"{name}.query")
        if index == 0:
            zero, axis = (
                self.graph.constant("zero", np.zeros(1, np.int64)),
                self.graph.constant("axis", np.ones(1, np.int64)),
            )
            self.graph.node("Slice", [query, zero, zero, axis], "nothing")
        inputs = [
            query,
            "nothing",
            "nothing",
            f"cross_key_{index}",
            f"cross_value_{index}",
            "last_frame",
            "frame_capacity",
        ]
        outputs = [f"{name}.mixed"]
        attributes: dict[str, str | int] = {}
        if self.integer_cross:
            unit = self.graph.constant("cross.unit", np.ones(1, np.float32))
            inputs += ["", "", "", "", "", unit, unit]
            outputs += [f"kept_cross_key_{index}", f"kept_cross_value_{index}"]
            attributes = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
        mixed = self.graph.nodes(
            "GroupQueryAttention",
            inputs,
            outputs,
            domain=CONTRIB,
            num_heads=config.heads,
            kv_num_heads=config.heads,
            scale=self.scale,
            **attributes,
        )[0]
        return self.linear(self.graph, mixed, attention.output.pad_input_heads(config.heads, size), f"{name}.output")

    def mlp(self, layer: DecoderLayer, normed: str, name: str) -> str:
        """Write SwiGLU: values * SiLU(gate)."""
        both = self.linear(self.graph, normed, layer.fc1, f"{name}.fc1")
        values, gate = self.graph.nodes("Split", [both], [f"{name}.values", f"{name}.gate"], axis=-1, num_outputs=2)
        opened = self.graph.node("QuickGelu", [gate], f"{name}.opened", domain=CONTRIB, alpha=1.0)
        product = self.graph.node("Mul", [values, opened], f"{name}.gated")
        return self.linear(self.graph, product, layer.fc2, f"{name}.fc2")

    def decide(self, logits: str) -> None:
        """Find the greatest logit of f32 [rows, 1, vocabulary], and its log probability. ArgMax is slow and ReduceMax is not, so
        first the block with the greatest one is found, then its place in the block."""
        graph, vocabulary = self.graph, self.config.vocabulary_size
        size = math.gcd(vocabulary, LOGITS_IN_BLOCK)
        shape = graph.constant("block.shape", np.array([-1, vocabulary // size, size]))
        blocks = graph.node("Reshape", [logits, shape], "blocks")
        greatest = graph.node(
            "ReduceMax", [blocks, graph.constant("last_axis", np.array([-1]))], "block.max", keepdims=0
        )
        block = graph.node("ArgMax", [greatest], "block", axis=-1, keepdims=1)
        within = graph.node("GatherND", [blocks, block], "block.logits", batch_dims=1)
        place = graph.node("ArgMax", [within], "block.place", axis=-1, keepdims=1)
        start = graph.node("Mul", [block, graph.constant("block.size", size, np.int64)], "block.start")
        token = graph.node("Add", [start, place], "next_tokens")
        log_probs = graph.node("LogSoftmax", [logits], "log_probs", axis=-1)
        index = graph.node("Unsqueeze", [token, graph.constant("last_axis", np.array([-1]))], "next_tokens.index")
        graph.node("GatherND", [log_probs, index], "token_log_probs", batch_dims=2)

    def norm(self, hidden: str, scale: Array, name: str) -> str:
        weight = self.graph.constant(f"{name}.scale", scale)
        return self.graph.node("LayerNormalization", [hidden, weight], name, axis=-1, epsilon=self.config.norm_epsilon)

    def add_and_norm(self, hidden: str, change: str, scale: Array, name: str) -> tuple[str, str]:
        """Add and normalise by two nodes, which are several times faster than SkipLayerNormalization, which does both."""
        added = self.graph.node("Add", [hidden, change], f"{name}.sum")
        return added, self.norm(added, scale, name)
