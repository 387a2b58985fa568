"""Evens out the components of activations before they are quantized, without changing the model: what one layer's outputs
are divided by, the next layer's matrix is multiplied by (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asrloop.families.moonshine.observation import Observation, Observations
from asrloop.families.moonshine.weights import Array, Attention, DecoderLayer, EncoderLayer, Linear, MoonshineWeights

STRENGTH = 0.5
"""How much of the unevenness moves from the activations into the matrix, 0..1."""


class Smoother:
    """Finds factors from what was ``observed``, and keeps the observations in step with the weights."""

    def __init__(self, observed: Mapping[str, Observation], heads: int) -> None:
        self.observed = dict(observed)
        self._heads = heads

    def factor(self, names: Sequence[str], readers: Sequence[Linear]) -> Array:
        """What to divide the common input of ``readers`` by; it was observed under ``names``. f32 [inputs]."""
        seen = self.observed[names[0]]
        inputs = readers[0].matrix.shape[0]
        activation = np.maximum(np.maximum(-seen.least, seen.greatest), 1e-5)
        activation = activation.reshape(self._groups(seen))[:, : inputs // self._heads].reshape(-1)
        factor = self.balance(activation, np.max([np.abs(reader.matrix).max(axis=1) for reader in readers], axis=0))
        self.divide(names, factor)
        return factor

    def balance(self, activation: Array, matrix: Array) -> Array:
        """The factors for inputs of these greatest magnitudes and the greatest elements they meet; geometric mean 1."""
        factor = activation**STRENGTH / np.maximum(matrix, 1e-5) ** (1 - STRENGTH)
        return np.asarray(factor / np.exp(np.log(factor).mean()), np.float32)

    def divide(self, names: Sequence[str], factor: Array) -> None:
        """Keep in step: what was observed under ``names`` is now divided by ``factor``."""
        seen = self.observed[names[0]]
        widened = np.ones_like(seen.least).reshape(self._groups(seen))
        widened[:, : factor.size // self._heads] = factor.reshape(self._heads, -1)
        for name in names:
            self.observed[name] = seen.divided(widened.reshape(-1))

    def _groups(self, seen: Observation) -> tuple[int, int]:
        """Attention's results are observed with heads widened; other inputs divide into as many groups just as well."""
        return self._heads, seen.least.size // self._heads

    def after_norm(self, norm: Array, names: Sequence[str], readers: Sequence[Linear]) -> tuple[Array, list[Linear]]:
        """Fold into the scale of the layer norm before ``readers``."""
        factor = self.factor(names, readers)
        return norm / factor, [reader.scale_inputs(factor) for reader in readers]

    def second_convolution(self, weights: MoonshineWeights) -> MoonshineWeights:
        """Fold into the group norm. A channel is seen once for each tap of the window; one factor serves all."""
        _, channels, width = weights.conv2.shape
        seen = self.observed["conv2"]
        activation = np.maximum(np.maximum(-seen.least, seen.greatest), 1e-5).reshape(width, channels).max(axis=0)
        factor = self.balance(activation, np.abs(weights.conv2).max(axis=(0, 2)))
        self.observed["conv2"] = seen.divided(np.tile(factor, width))
        return replace(
            weights,
            group_norm_scale=weights.group_norm_scale / factor,
            group_norm_bias=weights.group_norm_bias / factor,
            conv2=weights.conv2 * factor[:, None],
        )

    def after_linear(self, writer: Linear, name: str, reader: Linear) -> tuple[Linear, Linear]:
        """Fold into the last columns of ``writer``, whose result reaches ``reader`` component by component."""
        factor = self.factor([name], [reader])
        return writer.scale_outputs(1 / factor), reader.scale_inputs(factor)

    def attention(self, attention: Attention, output_name: str) -> Attention:
        """Fold the input of the output projection into the value projection: mixing over time keeps components apart."""
        value, output = self.after_linear(attention.value, output_name, attention.output)
        return replace(attention, value=value, output=output)

    def encoder_layer(self, layer: EncoderLayer, name: str) -> EncoderLayer:
        """The input of fc2 comes through a GELU, which no factor passes."""
        attention = self.attention(layer.attention, f"{name}.attention.output")
        names = [f"{name}.attention.{part}" for part in ("query", "key", "value")]
        readers = [attention.query, attention.key, attention.value]
        attention_norm, (query, key, value) = self.after_norm(layer.attention_norm, names, readers)
        mlp_norm, (fc1,) = self.after_norm(layer.mlp_norm, [f"{name}.fc1"], [layer.fc1])
        attention = Attention(query, key, value, attention.output)
        return replace(layer, attention_norm=attention_norm, attention=attention, mlp_norm=mlp_norm, fc1=fc1)

    def decoder_layer(self, layer: DecoderLayer, name: str, unit: "CrossUnit") -> DecoderLayer:
        """The values half of fc1 reaches fc2 times the opened gate, so a factor passes."""
        attention = self.attention(layer.attention, f"{name}.attention.output")
        readers = [attention.query, attention.key, attention.value]
        attention_norm, (query, key, value) = self.after_norm(layer.attention_norm, [f"{name}.attention.qkv"], readers)
        cross = self.cross_attention(layer.cross_attention, f"{name}.cross.output", unit)
        cross_norm, (cross_query,) = self.after_norm(layer.cross_norm, [f"{name}.cross.query"], [cross.query])
        factor = self.factor([f"{name}.fc2"], [layer.fc2])
        fc1 = layer.fc1.scale_outputs(np.concatenate([1 / factor, np.ones_like(factor)]))
        mlp_norm, (fc1,) = self.after_norm(layer.mlp_norm, [f"{name}.fc1"], [fc1])
        return DecoderLayer(
            attention_norm=attention_norm,
            attention=Attention(query, key, value, attention.output),
            cross_norm=cross_norm,
            cross_attention=replace(cross, query=cross_query),
            mlp_norm=mlp_norm,
            fc1=fc1,
            fc2=layer.fc2.scale_inputs(factor),
        )

    def cross_attention(self, attention: Attention, output_name: str, unit: "CrossUnit") -> Attention:
        """Write keys and values in their units; queries and the output projection undo it."""
        self.divide([output_name], unit.value)
        return Attention(
            query=attention.query.scale_outputs(unit.key),
            key=attention.key.scale_outputs(1 / unit.key),
            value=attention.value.scale_outputs(1 / unit.value),
            output=attention.output.scale_inputs(unit.value),
        )

    def cross_projections(
        self, encoder_norm: Array, layers: Sequence[DecoderLayer]
    ) -> tuple[Array, tuple[DecoderLayer, ...]]:
        """All layers' cross K/V read the encoder's last norm."""
        crosses = [layer.cross_attention for layer in layers]
        readers = [reader for cross in crosses for reader in (cross.key, cross.value)]
        norm, readers = self.after_norm(encoder_norm, ["cross.flat"], readers)
        pairs = zip(readers[0::2], readers[1::2], strict=True)
        moved = [replace(cross, key=key, value=value) for cross, (key, value) in zip(crosses, pairs, strict=True)]
        return norm, tuple(replace(layer, cross_attention=cross) for layer, cross in zip(layers, moved, strict=True))


@dataclass(frozen=True)
class CrossUnit:
    """What an integer step of a layer's cross keys and values is worth, f32 [hidden_size] each."""

    key: Array
    value: Array


def smooth(weights: MoonshineWeights, seen: Observations) -> tuple[MoonshineWeights, Observations]:
    """An equal model whose activations are more even and whose cross K/V fill -127..127, and what its layers then see."""
    heads = weights.config.heads
    encoder, decoder = Smoother(seen.encoder, heads), Smoother(seen.decoder, heads)
    units = [CrossUnit(limit.key / 127, limit.value / 127) for limit in seen.cross]
    encoder_layers = tuple(encoder.encoder_layer(layer, f"layer{i}") for i, layer in enumerate(weights.encoder_layers))
    decoder_layers = tuple(
        decoder.decoder_layer(layer, f"layer{i}", units[i]) for i, layer in enumerate(weights.decoder_layers)
    )
    encoder_norm, decoder_layers = encoder.cross_projections(weights.encoder_norm, decoder_layers)
    decoder_norm, (head,) = decoder.after_norm(weights.decoder_norm, ["logits"], [weights.head])
    smoothed = replace(
        encoder.second_convolution(weights),
        encoder_layers=encoder_layers,
        encoder_norm=encoder_norm,
        decoder_layers=decoder_layers,
        decoder_norm=decoder_norm,
        head=head,
    )
    return smoothed, Observations(encoder.observed, decoder.observed, seen.cross)
