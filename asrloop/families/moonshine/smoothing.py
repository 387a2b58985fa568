"""Smooths the activations of a Moonshine; see ``asrloop.families.quantize.smoothing``."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from asrloop.families.moonshine.weights import DecoderLayer, EncoderLayer, MoonshineWeights
from asrloop.families.quantize.layer import Array, Attention
from asrloop.families.quantize.observation import Observations
from asrloop.families.quantize.smoothing import CrossUnit, Smoother


class MoonshineSmoother(Smoother):
    """Smooths the layers of one graph."""

    def second_convolution(self, weights: MoonshineWeights) -> MoonshineWeights:
        """Fold the factor into the group norm. A channel is seen once for each tap of the window; one factor serves all."""
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
        """Smooth all layers. fc2 reads the values half of fc1 times the opened gate, so a factor passes there."""
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


def smooth(weights: MoonshineWeights, seen: Observations) -> tuple[MoonshineWeights, Observations]:
    """Return an equal model with more even activations and with cross K/V that fill -127..127, and its observations."""
    heads = weights.config.heads
    encoder, decoder = MoonshineSmoother(seen.encoder, heads), MoonshineSmoother(seen.decoder, heads)
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
