"""The weights of a Moonshine model (Jeffries et al. 2024, arXiv:2410.15608) as plain arrays, whatever file they came from.

Matrices are stored ``[inputs, outputs]`` so that a layer computes ``x @ matrix + bias``.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class MoonshineConfig:
    """Sizes and constants of the architecture."""

    hidden_size: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    vocabulary_size: int
    rotary_size: int
    """How many of a head's first components are rotated by position."""
    rotary_base: float = 10000.0
    bos: int = 1
    eos: int = 2
    norm_epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """Components of a head."""
        return self.hidden_size // self.heads

    def rotary_tables(self, positions: int) -> tuple[Array, Array]:
        """cos and sin of the angle of every position and rotated pair, f32 [positions, rotary_size / 2]."""
        pairs = np.arange(0, self.rotary_size, 2, dtype=np.float64)
        frequencies = self.rotary_base ** (-pairs / self.rotary_size)
        angles = np.arange(positions)[:, None] * frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


@dataclass(frozen=True)
class Quantized:
    """u8 [inputs, outputs] with a scale f32 [outputs] and zero point u8 [outputs] for each column:
    ``matrix = (values - zero_point) * scale``."""

    values: NDArray[np.uint8]
    scale: Array
    zero_point: NDArray[np.uint8]

    def matrix(self) -> Array:
        """The f32 matrix that the integers stand for."""
        return (self.values.astype(np.float32) - self.zero_point.astype(np.float32)) * self.scale


@dataclass(frozen=True)
class Linear:
    """One matrix multiplication. ``quantized`` holds the integers that the matrix was stored as, if it was."""

    matrix: Array
    bias: Array | None = None
    quantized: Quantized | None = None

    @classmethod
    def from_quantized(cls, quantized: Quantized, bias: Array | None = None) -> "Linear":
        """The layer of stored integers."""
        return cls(quantized.matrix(), bias, quantized)

    def scale_inputs(self, factor: Array) -> "Linear":
        """The layer that gives the same output for inputs divided by ``factor`` f32 [inputs]."""
        return Linear(self.matrix * factor[:, None], self.bias)

    def scale_outputs(self, factor: Array) -> "Linear":
        """The layer whose outputs are multiplied by ``factor`` f32 [outputs]. A scale per column stays exact."""
        bias = None if self.bias is None else self.bias * factor
        quantized = self.quantized and replace(self.quantized, scale=self.quantized.scale * factor)
        return Linear(self.matrix * factor, bias, quantized)

    def pad_output_heads(self, heads: int, size: int) -> "Linear":
        """Widen every head of the output to ``size`` components; the new ones are 0."""
        old = self.matrix.shape[1] // heads
        widen = _padding(heads, old, size)
        quantized = self.quantized and Quantized(
            _take(self.quantized.values, widen, axis=1, fill=0),
            _take(self.quantized.scale, widen, axis=0, fill=1),
            _take(self.quantized.zero_point, widen, axis=0, fill=0),
        )
        bias = None if self.bias is None else _take(self.bias, widen, axis=0, fill=0)
        return Linear(_take(self.matrix, widen, axis=1, fill=0), bias, quantized)

    def pad_input_heads(self, heads: int, size: int) -> "Linear":
        """Accept an input whose heads were widened to ``size`` components; the new ones count for nothing."""
        old = self.matrix.shape[0] // heads
        widen = _padding(heads, old, size)
        quantized = self.quantized
        if quantized is not None:
            values = _take(quantized.values, widen, axis=0, fill=0)
            values[widen < 0] = quantized.zero_point
            quantized = replace(quantized, values=values)
        return Linear(_take(self.matrix, widen, axis=0, fill=0), self.bias, quantized)


def side_by_side(layers: "list[Linear]") -> Linear:
    """One layer whose output is the outputs of ``layers`` (without bias) one after another."""
    parts = [layer.quantized for layer in layers]
    whole = [part for part in parts if part is not None]
    quantized = None
    if len(whole) == len(parts):
        quantized = Quantized(
            np.concatenate([part.values for part in whole], axis=1),
            np.concatenate([part.scale for part in whole]),
            np.concatenate([part.zero_point for part in whole]),
        )
    return Linear(np.concatenate([layer.matrix for layer in layers], axis=1), None, quantized)


@dataclass(frozen=True)
class Attention:
    """The four projections of multi-head attention."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear


@dataclass(frozen=True)
class EncoderLayer:
    """Norm scales are f32 [hidden_size]; the norms have no bias."""

    attention_norm: Array
    attention: Attention
    mlp_norm: Array
    fc1: Linear
    fc2: Linear


@dataclass(frozen=True)
class DecoderLayer:
    """``fc1`` gives two halves: the values and the gate that is put through SiLU."""

    attention_norm: Array
    attention: Attention
    cross_norm: Array
    cross_attention: Attention
    mlp_norm: Array
    fc1: Linear
    fc2: Linear


@dataclass(frozen=True)
class MoonshineWeights:
    """Convolutions are ``[outputs, inputs, width]``; conv1 has no bias. ``embedding`` is f32 [vocabulary, hidden]
    and, as the model was trained, the transpose of the head's matrix."""

    config: MoonshineConfig
    conv1: Array
    group_norm_scale: Array
    group_norm_bias: Array
    conv2: Array
    conv2_bias: Array
    conv3: Array
    conv3_bias: Array
    encoder_layers: tuple[EncoderLayer, ...]
    encoder_norm: Array
    embedding: Array
    decoder_layers: tuple[DecoderLayer, ...]
    decoder_norm: Array
    head: Linear


def _padding(heads: int, old: int, new: int) -> NDArray[np.int64]:
    """For each component of the widened heads the index of the old one, or -1."""
    index = np.full((heads, new), -1)
    index[:, :old] = np.arange(heads * old).reshape(heads, old)
    return index.reshape(-1)


def _take(array: NDArray[Any], index: NDArray[np.int64], axis: int, fill: int) -> NDArray[Any]:
    taken: NDArray[Any] = np.take(array, np.maximum(index, 0), axis=axis)
    np.moveaxis(taken, axis, 0)[index < 0] = fill
    return taken
