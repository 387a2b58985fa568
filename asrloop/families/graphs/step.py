"""Writes one step of a decoder: the layers of every row over its own K/V, and the decision for the next token.

A row is an utterance with its own number of tokens and frames. Rows never see each other: both attentions read exactly
``lengths[row]`` cached tokens and ``frames[row]`` encoder frames, so rows of any length share a step without padding cost.

Inputs
    tokens            i64 [rows, 1]   the token decided last, the first one at first
    lengths           i32 [rows]      tokens already in the row's cache, 0 at first
    frames            i32 [rows]      valid frames of the row's cross K/V, at least 1
    wanted            i64 [wanted]    only where the sizes say so: rows that are decided for, in place of all, in the outputs that
                                      say what was decided
    past_key_l, past_value_l          f32 [rows, heads, token_capacity, cache_head_size], one pair a layer
    cross_key_l, cross_value_l        f32 or s8 [rows, heads, frame_capacity, cross_head_size], one pair a layer
Outputs
    next_tokens       i64 [rows, 1]   the most probable next token
    token_log_probs   f32 [rows, 1]   the natural logarithm of its probability
    log_probs         f32 [rows, 1, padded_vocabulary]  the same of all tokens
    present_key_l, present_value_l    the caches with the new token written at position ``lengths[row]``
    kept_cross_key_l, kept_cross_value_l     only with s8 cross K/V: the inputs, unchanged, which the operator gives back
    layerL.cross.query                f32 [rows, 1, heads * cross_head_size], of each layer in alignment_heads: the queries of its
                                      cross-attention, scaled by nothing

Bind a present (or kept) output to the memory of its input and it is updated in place; run plainly and it is copied.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from asrloop.families.attention.memory import LOGITS_IN_BLOCK, DecoderSizes, query_name
from asrloop.families.quantize.layer import Array, DecoderLayer, Linear, side_by_side
from asrloop.families.quantize.linear import LinearWriter
from asrloop.onnx_files.graph_writer import CONTRIB, GraphWriter, Shape

NEVER = -1e30
"""Logit of what is no token."""


class StepWriter:
    """Writes into ``graph``, whose inputs and outputs it declares. A family embeds the tokens, and writes the ``mlp``."""

    def __init__(
        self,
        graph: GraphWriter,
        linear: LinearWriter,
        sizes: DecoderSizes,
        norm_epsilon: float,
        rotary: tuple[Array, Array] | None = None,
    ) -> None:
        """``rotary`` are cos and sin by position of the rotation of queries and keys, in pairs that lie side by side."""
        self.graph = graph
        self.linear = linear
        self.sizes = sizes
        self.norm_epsilon = norm_epsilon
        self._rotary = rotary
        self._integer_cross = sizes.cross_type == "int8"
        self._scale = sizes.head_size**-0.5
        graph.input("tokens", np.int64, ["rows", 1])
        graph.input("lengths", np.int32, ["rows"])
        graph.input("frames", np.int32, ["rows"])
        if sizes.picks_rows:
            graph.input("wanted", np.int64, ["wanted"])
        decided = "wanted" if sizes.picks_rows else "rows"
        graph.output("next_tokens", np.int64, [decided, 1])
        graph.output("token_log_probs", np.float32, [decided, 1])
        graph.output("log_probs", np.float32, [decided, 1, sizes.padded_vocabulary])
        self._declare_caches()
        for index in sizes.query_layers:
            graph.output(query_name(index), np.float32, ["rows", 1, sizes.heads * sizes.cross_head_size])
        self._write_lengths()

    def mlp(self, layer: DecoderLayer, normed: str, name: str) -> str:
        """Write the MLP of a layer and return its result."""
        raise NotImplementedError

    def embed(self, embedding: Array, dtype: type[np.floating[Any]]) -> str:
        """Return the vectors of the tokens, f32 [rows, 1, hidden_size], of a table that is stored as ``dtype``."""
        table = self.graph.constant("embedding", embedding, dtype)
        rows = self.graph.node("Gather", [table, "tokens"], "embedding.rows")
        return self.graph.node("Cast", [rows], "embedded", to=TensorProto.FLOAT)

    def layers(
        self, layers: Sequence[DecoderLayer], hidden: str, last_norm: Array, last_bias: Array | None = None
    ) -> str:
        """Return the normed result of all layers over ``hidden``, of the rows that are decided for."""
        normed = self.norm(hidden, layers[0].attention_norm, "layer0.attention_norm")
        norms = [layer.attention_norm for layer in layers[1:]] + [last_norm]
        biases = [None] * (len(layers) - 1) + [last_bias]
        for index, (layer, norm, bias) in enumerate(zip(layers, norms, biases, strict=True)):
            hidden, normed = self._layer(index, layer, hidden, normed, norm, bias)
        return self.graph.node("Gather", [normed, "wanted"], "last", axis=0) if self.sizes.picks_rows else normed

    def _declare_caches(self) -> None:
        sizes = self.sizes
        cache: Shape = ["rows", sizes.heads, "token_capacity", sizes.cache_head_size]
        cross: Shape = ["rows", sizes.heads, "frame_capacity", sizes.cross_head_size]
        for index in range(sizes.layers):
            for part in ("key", "value"):
                self.graph.input(f"past_{part}_{index}", np.float32, cache)
                self.graph.output(f"present_{part}_{index}", np.float32, cache)
        for index in range(sizes.layers):
            for part in ("key", "value"):
                self.graph.input(f"cross_{part}_{index}", np.int8 if self._integer_cross else np.float32, cross)
                if self._integer_cross:
                    self.graph.output(f"kept_cross_{part}_{index}", np.int8, cross)

    def _write_lengths(self) -> None:
        """Write what the attention operators need: each row's last valid position, and a bound on the lengths, the capacity."""
        graph = self.graph
        graph.node("Sub", ["frames", graph.constant("one", 1, np.int32)], "last_frame")
        for part, source in (("token_capacity", "past_key_0"), ("frame_capacity", "cross_key_0")):
            capacity = graph.node("Shape", [source], f"{part}.i64", start=2, end=3)
            scalar = graph.node("Squeeze", [capacity], f"{part}.scalar")
            graph.node("Cast", [scalar], part, to=TensorProto.INT32)
        for name, table in zip(("cosines", "sines"), self._rotary or (), strict=False):
            graph.constant(name, table)

    def _layer(
        self, index: int, layer: DecoderLayer, hidden: str, normed: str, norm: Array, bias: Array | None
    ) -> tuple[str, str]:
        """Add self-attention, cross-attention and MLP to ``hidden``. Returns ``hidden`` and its next norm."""
        name = f"layer{index}"
        attended = self._self_attention(index, layer, normed)
        hidden, normed = self._add_and_norm(hidden, attended, layer.cross_norm, f"{name}.cross_norm")
        attended = self._cross_attention(index, layer, normed)
        hidden, normed = self._add_and_norm(hidden, attended, layer.mlp_norm, f"{name}.mlp_norm")
        projected = self.mlp(layer, normed, name)
        return self._add_and_norm(hidden, projected, norm, f"{name}.following_norm", bias)

    def _self_attention(self, index: int, layer: DecoderLayer, normed: str) -> str:
        sizes, attention, name = self.sizes, layer.attention, f"layer{index}.attention"
        size = sizes.cache_head_size
        parts = (attention.query, attention.key, attention.value)
        packed = side_by_side([part.pad_output_heads(sizes.heads, size) for part in parts])
        qkv = self.linear(self.graph, normed, packed, f"{name}.qkv")
        inputs = [qkv, "", "", f"past_key_{index}", f"past_value_{index}", "lengths", "token_capacity"]
        rotation = {}
        if self._rotary:
            inputs += ["cosines", "sines"]
            rotation = {"do_rotary": 1, "rotary_interleaved": 1}
        mixed = self.graph.nodes(
            "GroupQueryAttention",
            inputs,
            [f"{name}.mixed", f"present_key_{index}", f"present_value_{index}"],
            domain=CONTRIB,
            num_heads=sizes.heads,
            kv_num_heads=sizes.heads,
            scale=self._scale,
            **rotation,
        )[0]
        return self.linear(self.graph, mixed, attention.output.pad_input_heads(sizes.heads, size), f"{name}.output")

    def _cross_attention(self, index: int, layer: DecoderLayer, normed: str) -> str:
        """Attend to the cross K/V, given as the operator's past. Empty K and V tell it that no token is added."""
        sizes, attention, name = self.sizes, layer.cross_attention, f"layer{index}.cross"
        size = sizes.cross_head_size
        query = self.linear(self.graph, normed, attention.query.pad_output_heads(sizes.heads, size), f"{name}.query")
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
        if self._integer_cross:
            unit = self.graph.constant("cross.unit", np.ones(1, np.float32))
            inputs += ["", "", "", "", "", unit, unit]
            outputs += [f"kept_cross_key_{index}", f"kept_cross_value_{index}"]
            attributes = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
        mixed = self.graph.nodes(
            "GroupQueryAttention",
            inputs,
            outputs,
            domain=CONTRIB,
            num_heads=sizes.heads,
            kv_num_heads=sizes.heads,
            scale=self._scale,
            **attributes,
        )[0]
        return self.linear(self.graph, mixed, attention.output.pad_input_heads(sizes.heads, size), f"{name}.output")

    def decide(self, normed: str, head: Linear, suppressed: Sequence[int] = ()) -> None:
        """Find the greatest logit, and its log probability. ``suppressed`` tokens are never taken, and have none.

        ArgMax is slow and ReduceMax is not, so first the block with the greatest one is found, then its place in the block.
        The head is widened to whole blocks.
        """
        graph, width = self.graph, self.sizes.padded_vocabulary
        logits = self.linear(graph, normed, _masked(head, width, suppressed), "logits")
        shape = graph.constant("block.shape", np.array([-1, width // LOGITS_IN_BLOCK, LOGITS_IN_BLOCK]))
        blocks = graph.node("Reshape", [logits, shape], "blocks")
        greatest = graph.node(
            "ReduceMax", [blocks, graph.constant("last_axis", np.array([-1]))], "block.max", keepdims=0
        )
        block = graph.node("ArgMax", [greatest], "block", axis=-1, keepdims=1)
        within = graph.node("GatherND", [blocks, block], "block.logits", batch_dims=1)
        place = graph.node("ArgMax", [within], "block.place", axis=-1, keepdims=1)
        start = graph.node("Mul", [block, graph.constant("block.size", LOGITS_IN_BLOCK, np.int64)], "block.start")
        token = graph.node("Add", [start, place], "next_tokens")
        log_probs = graph.node("LogSoftmax", [logits], "log_probs", axis=-1)
        index = graph.node("Unsqueeze", [token, graph.constant("last_axis", np.array([-1]))], "next_tokens.index")
        graph.node("GatherND", [log_probs, index], "token_log_probs", batch_dims=2)

    def norm(self, hidden: str, scale: Array, name: str, bias: Array | None = None) -> str:
        inputs = [hidden, self.graph.constant(f"{name}.scale", scale)]
        if bias is not None:
            inputs.append(self.graph.constant(f"{name}.bias", bias))
        return self.graph.node("LayerNormalization", inputs, name, axis=-1, epsilon=self.norm_epsilon)

    def _add_and_norm(
        self, hidden: str, change: str, scale: Array, name: str, bias: Array | None = None
    ) -> tuple[str, str]:
        """Add and normalise by two nodes, which are several times faster than SkipLayerNormalization, which does both."""
        added = self.graph.node("Add", [hidden, change], f"{name}.sum")
        return added, self.norm(added, scale, name, bias)


def _masked(head: Linear, width: int, suppressed: Sequence[int]) -> Linear:
    """Return ``head`` with ``width`` outputs, of which those behind its own and the ``suppressed`` ones are NEVER."""
    added = width - head.matrix.shape[1]
    if not added and not suppressed:
        return head
    bias = np.zeros(width - added, np.float32) if head.bias is None else head.bias.copy()
    bias = np.pad(bias, (0, added), constant_values=NEVER)
    bias[list(suppressed)] = NEVER
    return Linear(np.pad(head.matrix, ((0, 0), (0, added))), bias)
