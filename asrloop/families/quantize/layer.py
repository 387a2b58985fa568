"""Linear layers and attention as plain arrays. Matrices are ``[inputs, outputs]``, so that a layer is ``x @ matrix + bias``."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Quantized:
    """Integers u8 [inputs, outputs] with a scale f32 [outputs] and zero point u8 [outputs] for each column:
    ``matrix = (values - zero_point) * scale``."""

    values: NDArray[np.uint8]
    scale: Array
    zero_point: NDArray[np.uint8]

    def matrix(self) -> Array:
        """Return the f32 matrix that the integers stand for."""
        return (self.values.astype(np.float32) - self.zero_point.astype(np.float32)) * self.scale


@dataclass(frozen=True)
class Linear:
    """One matrix multiplication. ``quantized`` holds the integers that the matrix was stored as, if it was."""

    matrix: Array
    bias: Array | None = None
    quantized: Quantized | None = None

    @classmethod
    def from_quantized(cls, quantized: Quantized, bias: Array | None = None) -> "Linear":
        """Make a layer of stored integers."""
        return cls(quantized.matrix(), bias, quantized)

    def scale_inputs(self, factor: Array) -> "Linear":
        """Return a layer that gives the same output for inputs divided by ``factor`` f32 [inputs]."""
        return Linear(self.matrix * factor[:, None], self.bias)

    def scale_outputs(self, factor: Array) -> "Linear":
        """Return a layer whose outputs are multiplied by ``factor`` f32 [outputs]. A scale per column stays exact."""
        bias = None if self.bias is None else self.bias * factor
        quantized = self.quantized and replace(self.quantized, scale=self.quantized.scale * factor)
        return Linear(self.matrix * factor, bias, quantized)

    def pad_output_heads(self, heads: int, size: int) -> "Linear":
        """Widen every head of the output to ``size`` components with zeros."""
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
        """Accept an input whose heads were widened to ``size`` components, and ignore the new ones."""
        old = self.matrix.shape[0] // heads
        widen = _padding(heads, old, size)
        quantized = self.quantized
        if quantized is not None:
            values = _take(quantized.values, widen, axis=0, fill=0)
            values[widen < 0] = quantized.zero_point
            quantized = replace(quantized, values=values)
        return Linear(_take(self.matrix, widen, axis=0, fill=0), self.bias, quantized)


def side_by_side(layers: "list[Linear]") -> Linear:
    """Join ``layers`` into one whose output is theirs, one after another."""
    parts = [layer.quantized for layer in layers]
    whole = [part for part in parts if part is not None]
    quantized = None
    if len(whole) == len(parts):
        quantized = Quantized(
            np.concatenate([part.values for part in whole], axis=1),
            np.concatenate([part.scale for part in whole]),
            np.concatenate([part.zero_point for part in whole]),
        )
    bias = None
    if any(layer.bias is not None for layer in layers):
        zeros = [np.zeros(layer.matrix.shape[1], np.float32) for layer in layers]
        biases = [zero if layer.bias is None else layer.bias for layer, zero in zip(layers, zeros, strict=True)]
        bias = np.concatenate(biases)
    return Linear(np.concatenate([layer.matrix for layer in layers], axis=1), bias, quantized)


@dataclass(frozen=True)
class Attention:
    """Four projections of multi-head attention."""

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
    """The same with attention to the encoder's frames."""

    attention_norm: Array
    attention: Attention
    cross_norm: Array
    cross_attention: Attention
    mlp_norm: Array
    fc1: Linear
    fc2: Linear


def _padding(heads: int, old: int, new: int) -> NDArray[np.int64]:
    """Return the index of the old component for each one of the widened heads, -1 for the new."""
    index = np.full((heads, new), -1)
    index[:, :old] = np.arange(heads * old).reshape(heads, old)
    return index.reshape(-1)


def _take(array: NDArray[Any], index: NDArray[np.int64], axis: int, fill: int) -> NDArray[Any]:
    taken: NDArray[Any] = np.take(array, np.maximum(index, 0), axis=axis)
    np.moveaxis(taken, axis, 0)[index < 0] = fill
    return taken
