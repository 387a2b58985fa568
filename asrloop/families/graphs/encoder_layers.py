"""Writes the layers of an encoder, its convolutions, and the projections of its result to the cross K/V of a decoder."""

from collections.abc import Sequence

import numpy as np

from asrloop.families.quantize.layer import Array, DecoderLayer, EncoderLayer, Linear, side_by_side
from asrloop.families.quantize.linear import LinearWriter, Windows
from asrloop.onnx_files.graph_writer import CONTRIB, GraphWriter


class EncoderWriter:
    """Writes into ``graph``. Positions are known to the frames; a family whose attention is told them overrides ``placed``."""

    def __init__(
        self, graph: GraphWriter, linear: LinearWriter, heads: int, head_size: int, norm_epsilon: float
    ) -> None:
        self.graph = graph
        self.linear = linear
        self.heads = heads
        self.head_size = head_size
        self.norm_epsilon = norm_epsilon

    def placed(self, x: str) -> str:
        """Return queries or keys with the positions of their frames."""
        return x

    def layers(self, layers: Sequence[EncoderLayer], last_norm: Array, hidden: str) -> str:
        """Return the normed result of all layers over ``hidden`` f32 [1, frames, hidden_size]."""
        normed = self.norm(hidden, layers[0].attention_norm, "layer0.attention_norm")
        norms = [layer.attention_norm for layer in layers[1:]] + [last_norm]
        for index, (layer, following_norm) in enumerate(zip(layers, norms, strict=True)):
            hidden, normed = self.layer(layer, hidden, normed, following_norm, f"layer{index}")
        return normed

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
        """Let every frame attend to every frame."""
        attention = layer.attention
        query, key, value = (
            self.linear(self.graph, normed, part, f"{name}.{what}")
            for what, part in (("query", attention.query), ("key", attention.key), ("value", attention.value))
        )
        mixed = self.graph.node(
            "MultiHeadAttention",
            [self.placed(query), self.placed(key), value],
            f"{name}.mixed",
            domain=CONTRIB,
            num_heads=self.heads,
            scale=self.head_size**-0.5,
        )
        return self.linear(self.graph, mixed, attention.output, f"{name}.output")

    def norm(self, hidden: str, scale: Array, name: str) -> str:
        weight = self.graph.constant(f"{name}.scale", scale)
        return self.graph.node("LayerNormalization", [hidden, weight], name, axis=-1, epsilon=self.norm_epsilon)

    def convolution(self, frames: str, weight: Array, bias: Array, stride: int, name: str) -> str:
        """Write convolution and GELU over ``frames`` f32 [1, times, inputs], as one product with all windows laid flat."""
        outputs, inputs, width = weight.shape
        index = self._windows(frames, width, stride, f"{name}.windows")
        gathered = self.graph.node("Gather", [frames, index], f"{name}.gathered", axis=1)
        flat = self.graph.constant(f"{name}.flat", np.array([1, -1, width * inputs]))
        rows = self.graph.node("Reshape", [gathered, flat], f"{name}.rows")
        matrix = np.ascontiguousarray(weight.transpose(2, 1, 0)).reshape(width * inputs, outputs)
        result = self.linear(self.graph, rows, Linear(matrix, bias), name, Windows(frames, index))
        return self.graph.node("Gelu", [result], f"{name}.gelu", domain=CONTRIB)

    def _windows(self, frames: str, width: int, stride: int, name: str) -> str:
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

    def cross_keys_and_values(
        self, layers: Sequence[DecoderLayer], encoded: str, heads: int, size: int, *, integer: bool
    ) -> None:
        """Compute K and V of all decoder ``layers`` by one product and one transposition, then split them.

        Heads are widened to ``size``. ``integer`` ones are rounded to s8; the layers must already give them in -127..127.
        """
        graph = self.graph
        projections = [
            (f"cross_{part}_{index}", projection.pad_output_heads(heads, size))
            for index, layer in enumerate(layers)
            for part, projection in (("key", layer.cross_attention.key), ("value", layer.cross_attention.value))
        ]
        names = [name for name, _ in projections]
        flat = self.linear(graph, encoded, side_by_side([projection for _, projection in projections]), "cross.flat")
        if integer:
            unit = [graph.constant("cross.unit", 1, np.float32), graph.constant("cross.zero_point", 0, np.int8)]
            flat = graph.node("QuantizeLinear", [flat, *unit], "cross.s8")
        split = graph.constant("split_heads", np.array([0, 0, len(names) * heads, size]))
        in_heads = graph.node("Reshape", [flat, split], "cross.heads")
        every = graph.node("Transpose", [in_heads], "cross", perm=[0, 2, 1, 3])
        graph.nodes("Split", [every], names, axis=1, num_outputs=len(names))
        for name in names:
            graph.output(name, np.int8 if integer else np.float32, [1, heads, "frames", size])
