"""Smooths activations before they are quantized, without changing the model: one layer's outputs are divided by factors that
the next layer's matrix is multiplied by (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asrloop.families.quantize.layer import Array, Attention, DecoderLayer, EncoderLayer, Linear
from asrloop.families.quantize.observation import CrossLimit, Observation

STRENGTH = 0.5
"""Share of the unevenness that moves from the activations into the matrix, 0..1."""


class Smoother:
    """Finds factors from observations, and keeps the observations in step with the weights."""

    def __init__(self, observed: Mapping[str, Observation], heads: int) -> None:
        self.observed = dict(observed)
        self._heads = heads

    def factor(self, names: Sequence[str], readers: Sequence[Linear]) -> Array:
        """Return what to divide the common input of ``readers``, observed under ``names``, by: f32 [inputs]."""
        seen = self.observed[names[0]]
        inputs = readers[0].matrix.shape[0]
        activation = np.maximum(np.maximum(-seen.least, seen.greatest), 1e-5)
        activation = activation.reshape(self._groups(seen))[:, : inputs // self._heads].reshape(-1)
        factor = self.balance(activation, np.max([np.abs(reader.matrix).max(axis=1) for reader in readers], axis=0))
        self.divide(names, factor)
        return factor

    def balance(self, activation: Array, matrix: Array) -> Array:
        """Return factors with geometric mean 1 for the greatest magnitudes of inputs and of the matrix elements they meet."""
        factor = activation**STRENGTH / np.maximum(matrix, 1e-5) ** (1 - STRENGTH)
        return np.asarray(factor / np.exp(np.log(factor).mean()), np.float32)

    def divide(self, names: Sequence[str], factor: Array) -> None:
        """Divide the observations under ``names`` by ``factor``."""
        seen = self.observed[names[0]]
        widened = np.ones_like(seen.least).reshape(self._groups(seen))
        widened[:, : factor.size // self._heads] = factor.reshape(self._heads, -1)
        for name in names:
            self.observed[name] = seen.divided(widened.reshape(-1))

    def _groups(self, seen: Observation) -> tuple[int, int]:
        """Return the shape of heads by components. Attention's results are observed with heads widened; other inputs divide into as
        many groups just as well."""
        return self._heads, seen.least.size // self._heads

    def after_norm(self, norm: Array, names: Sequence[str], readers: Sequence[Linear]) -> tuple[Array, list[Linear]]:
        """Fold the factor into the scale of the layer norm before ``readers``."""
        factor = self.factor(names, readers)
        return norm / factor, [reader.scale_inputs(factor) for reader in readers]

    def after_linear(self, writer: Linear, name: str, reader: Linear) -> tuple[Linear, Linear]:
        """Fold the factor into ``writer``, whose result reaches ``reader`` component by component."""
        factor = self.factor([name], [reader])
        return writer.scale_outputs(1 / factor), reader.scale_inputs(factor)

    def attention(self, attention: Attention, output_name: str) -> Attention:
        """Fold the input of the output projection into the value projection: mixing over time keeps components apart."""
        value, output = self.after_linear(attention.value, output_name, attention.output)
        return replace(attention, value=value, output=output)

    def cross_attention(self, attention: Attention, output_name: str, unit: "CrossUnit") -> Attention:
        """Write keys and values in their units; queries and the output projection undo it."""
        self.divide([output_name], unit.value)
        return Attention(
            query=attention.query.scale_outputs(unit.key),
            key=attention.key.scale_outputs(1 / unit.key),
            value=attention.value.scale_outputs(1 / unit.value),
            output=attention.output.scale_inputs(unit.value),
        )

    def encoder_layer(self, layer: EncoderLayer, name: str) -> EncoderLayer:
        """Smooth all but the input of fc2, which comes through a GELU that no factor passes."""
        attention = self.attention(layer.attention, f"{name}.attention.output")
        names = [f"{name}.attention.{part}" for part in ("query", "key", "value")]
        readers = [attention.query, attention.key, attention.value]
        attention_norm, (query, key, value) = self.after_norm(layer.attention_norm, names, readers)
        mlp_norm, (fc1,) = self.after_norm(layer.mlp_norm, [f"{name}.fc1"], [layer.fc1])
        attention = Attention(query, key, value, attention.output)
        return replace(layer, attention_norm=attention_norm, attention=attention, mlp_norm=mlp_norm, fc1=fc1)

    def decoder_layer(self, layer: DecoderLayer, name: str, unit: "CrossUnit") -> DecoderLayer:
        """Smooth all but the MLP's inner part, and write cross K/V in their units."""
        attention = self.attention(layer.attention, f"{name}.attention.output")
        readers = [attention.query, attention.key, attention.value]
        attention_norm, (query, key, value) = self.after_norm(layer.attention_norm, [f"{name}.attention.qkv"], readers)
        cross = self.cross_attention(layer.cross_attention, f"{name}.cross.output", unit)
        cross_norm, (cross_query,) = self.after_norm(layer.cross_norm, [f"{name}.cross.query"], [cross.query])
        mlp_norm, (fc1,) = self.after_norm(layer.mlp_norm, [f"{name}.fc1"], [layer.fc1])
        return DecoderLayer(
            attention_norm=attention_norm,
            attention=Attention(query, key, value, attention.output),
            cross_norm=cross_norm,
            cross_attention=replace(cross, query=cross_query),
            mlp_norm=mlp_norm,
            fc1=fc1,
            fc2=layer.fc2,
        )

    def cross_projections(
        self, encoder_norm: Array, layers: Sequence[DecoderLayer]
    ) -> tuple[Array, tuple[DecoderLayer, ...]]:
        """Smooth the projections to cross K/V of all layers, which read the encoder's last norm."""
        crosses = [layer.cross_attention for layer in layers]
        readers = [reader for cross in crosses for reader in (cross.key, cross.value)]
        norm, readers = self.after_norm(encoder_norm, ["cross.flat"], readers)
        pairs = zip(readers[0::2], readers[1::2], strict=True)
        moved = [replace(cross, key=key, value=value) for cross, (key, value) in zip(crosses, pairs, strict=True)]
        return norm, tuple(replace(layer, cross_attention=cross) for layer, cross in zip(layers, moved, strict=True))


@dataclass(frozen=True)
class CrossUnit:
    """Value of one integer step of a layer's cross keys and values, f32 [hidden_size] each."""

    key: Array
    value: Array

    @classmethod
    def filling(cls, limit: CrossLimit) -> "CrossUnit":
        """Return the units in which what was seen fills -127..127."""
        return cls(np.maximum(limit.key, 1e-6) / 127, np.maximum(limit.value, 1e-6) / 127)
