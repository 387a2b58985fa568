"""Moonshine in plain NumPy fp32, written from the published architecture (Jeffries et al. 2024, arXiv:2410.15608) and not from
the graphs: no fused operators, no caches, no padding. Slow, and what the graphs must agree with."""

import math

import numpy as np
from numpy.typing import NDArray

from asrloop.families.moonshine.weights import MoonshineConfig, MoonshineWeights
from asrloop.families.quantize.layer import Attention, DecoderLayer, EncoderLayer, Linear

Array = NDArray[np.float32]


class ReferenceMoonshine:
    """One utterance at a time."""

    def __init__(self, weights: MoonshineWeights) -> None:
        self.weights = weights
        self.config = weights.config

    def encode(self, samples: Array) -> Array:
        """``samples`` f32 [N] to encoder states f32 [frames, hidden]."""
        weights = self.weights
        x = np.tanh(convolve(samples[None], weights.conv1, None, 64))
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        x = x * weights.group_norm_scale[:, None] + weights.group_norm_bias[:, None]
        x = gelu(convolve(x, weights.conv2, weights.conv2_bias, 3))
        x = gelu(convolve(x, weights.conv3, weights.conv3_bias, 2)).T
        for layer in weights.encoder_layers:
            x = self._encoder_layer(layer, x)
        return layer_norm(x, weights.encoder_norm)

    def logits(self, states: Array, tokens: list[int]) -> Array:
        """Logits f32 [len(tokens), vocabulary] of the token after each of ``tokens``, which begin with BOS."""
        x = self.weights.embedding[tokens]
        for layer in self.weights.decoder_layers:
            x = self._decoder_layer(layer, x, states)
        logits: Array = layer_norm(x, self.weights.decoder_norm) @ self.weights.head.matrix
        return logits

    def greedy(self, states: Array, limit: int) -> list[int]:
        """At most ``limit`` tokens, without BOS and EOS."""
        tokens = [self.config.bos]
        while len(tokens) <= limit:
            token = int(self.logits(states, tokens)[-1].argmax())
            if token == self.config.eos:
                break
            tokens.append(token)
        return tokens[1:]

    def _encoder_layer(self, layer: EncoderLayer, x: Array) -> Array:
        normed = layer_norm(x, layer.attention_norm)
        x = x + self._attend(layer.attention, normed, normed, rotary=True, causal=False)
        return x + linear(layer.fc2, gelu(linear(layer.fc1, layer_norm(x, layer.mlp_norm))))

    def _decoder_layer(self, layer: DecoderLayer, x: Array, states: Array) -> Array:
        normed = layer_norm(x, layer.attention_norm)
        x = x + self._attend(layer.attention, normed, normed, rotary=True, causal=True)
        x = x + self._attend(layer.cross_attention, layer_norm(x, layer.cross_norm), states, rotary=False, causal=False)
        values, gate = np.split(linear(layer.fc1, layer_norm(x, layer.mlp_norm)), 2, axis=-1)
        return x + linear(layer.fc2, values * gate / (1 + np.exp(-gate)))

    def _attend(self, attention: Attention, x: Array, source: Array, *, rotary: bool, causal: bool) -> Array:
        query, key, value = (
            linear(part, data).reshape(len(data), self.config.heads, -1).transpose(1, 0, 2)
            for part, data in ((attention.query, x), (attention.key, source), (attention.value, source))
        )
        if rotary:
            query, key = rotate(query, self.config), rotate(key, self.config)
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(self.config.head_size)
        if causal:
            scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        return linear(attention.output, mixed.transpose(1, 0, 2).reshape(len(x), -1))


def convolve(x: Array, weight: Array, bias: Array | None, stride: int) -> Array:
    """``x`` f32 [inputs, times] with ``weight`` [outputs, inputs, width], without padding."""
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2], axis=1)[:, ::stride]
    result: Array = np.einsum("itw,oiw->ot", windows, weight, optimize=True)
    return result if bias is None else result + bias[:, None]


def linear(layer: Linear, x: Array) -> Array:
    result: Array = x @ layer.matrix
    return result if layer.bias is None else result + layer.bias


def layer_norm(x: Array, scale: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    normed: Array = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * scale
    return normed


def gelu(x: Array) -> Array:
    erf = np.frompyfunc(math.erf, 1, 1)
    return np.asarray(0.5 * x * (1 + erf(x / math.sqrt(2)).astype(np.float32)), np.float32)


def rotate(x: Array, config: MoonshineConfig) -> Array:
    """Turn neighbouring components (0, 1), (2, 3), ... of the rotated part of each head by angles that grow with the
    position (RoFormer, Su et al. 2021, arXiv:2104.09864). ``x`` is f32 [heads, positions, head_size]."""
    frequencies = config.rotary_base ** (-np.arange(0, config.rotary_size, 2) / config.rotary_size)
    angles = np.arange(x.shape[1])[:, None] * frequencies
    cosines, sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    even, odd = x[..., 0 : config.rotary_size : 2], x[..., 1 : config.rotary_size : 2]
    turned = x.copy()
    turned[..., 0 : config.rotary_size : 2] = even * cosines - odd * sines
    turned[..., 1 : config.rotary_size : 2] = even * sines + odd * cosines
    return turned
