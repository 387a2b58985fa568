"""Smooths the activations of a Moonshine; see ``asrloop.families.quantize.smoothing``."""

from dataclasses import replace

import numpy as np

from asrloop.families.moonshine.weights import MoonshineWeights
from asrloop.families.quantize.layer import DecoderLayer
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

    def decoder_layer(self, layer: DecoderLayer, name: str, unit: CrossUnit) -> DecoderLayer:
        """Smooth fc2 as well: it reads the values half of fc1 times the opened gate, so a factor passes there."""
        factor = self.factor([f"{name}.fc2"], [layer.fc2])
        fc1 = layer.fc1.scale_outputs(np.concatenate([1 / factor, np.ones_like(factor)]))
        return super().decoder_layer(replace(layer, fc1=fc1, fc2=layer.fc2.scale_inputs(factor)), name, unit)


def smooth(weights: MoonshineWeights, seen: Observations) -> tuple[MoonshineWeights, Observations]:
    """Return an equal model with more even activations and with cross K/V that fill -127..127, and its observations."""
    heads = weights.config.heads
    encoder, decoder = MoonshineSmoother(seen.encoder, heads), MoonshineSmoother(seen.decoder, heads)
    units = [CrossUnit.filling(limit) for limit in seen.cross]
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
