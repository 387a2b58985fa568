"""Weights of a Whisper model (Radford et al. 2022, arXiv:2212.04356) as plain arrays, whatever file they came from."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from asrloop.families.quantize.layer import Array, Attention, DecoderLayer, EncoderLayer, Linear

NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class WhisperConfig:
    """Sizes of the architecture."""

    hidden_size: int
    encoder_heads: int
    decoder_heads: int
    encoder_layers: int
    decoder_layers: int
    mels: int
    vocabulary_size: int
    frames: int
    """Positions of the encoder: 1500 frames of 20 ms."""

    positions: int
    """Positions of the decoder: most tokens, with those before the text."""

    alignment_heads: tuple[tuple[int, int], ...]
    """Decoder layers and heads of the cross-attention that follow the speech best."""


class Norm(NamedTuple):
    """A layer norm; f32 [hidden_size] each."""

    scale: Array
    bias: Array


class RawEncoderLayer(NamedTuple):
    """As the files hold it."""

    attention_norm: Norm
    attention: Attention
    mlp_norm: Norm
    fc1: Linear
    fc2: Linear


class RawDecoderLayer(NamedTuple):
    """As the files hold it."""

    attention_norm: Norm
    attention: Attention
    cross_norm: Norm
    cross_attention: Attention
    mlp_norm: Norm
    fc1: Linear
    fc2: Linear


@dataclass(frozen=True)
class WhisperWeights:
    """Convolutions are ``[outputs, inputs, 3]``. ``embedding`` is f32 [vocabulary, hidden], ``positions`` f32 [positions, hidden].

    The norms of all layers have no bias: ``folded`` puts it into what reads them.
    """

    config: WhisperConfig
    conv1: Array
    conv1_bias: Array
    conv2: Array
    conv2_bias: Array
    encoder_positions: Array
    encoder_layers: tuple[EncoderLayer, ...]
    encoder_norm: Array
    embedding: Array
    positions: Array
    decoder_layers: tuple[DecoderLayer, ...]
    decoder_norm: Array
    decoder_norm_bias: Array
    head: Linear


def folded_encoder_layer(layer: RawEncoderLayer) -> EncoderLayer:
    """Return an equal layer whose norms have no bias."""
    return EncoderLayer(
        attention_norm=layer.attention_norm.scale,
        attention=_folded(layer.attention, layer.attention_norm.bias, layer.attention_norm.bias),
        mlp_norm=layer.mlp_norm.scale,
        fc1=_shifted(layer.fc1, layer.mlp_norm.bias),
        fc2=layer.fc2,
    )


def folded_decoder_layer(layer: RawDecoderLayer, encoder_norm: Norm) -> DecoderLayer:
    """Return an equal layer whose norms, and the encoder's last norm, have no bias."""
    return DecoderLayer(
        attention_norm=layer.attention_norm.scale,
        attention=_folded(layer.attention, layer.attention_norm.bias, layer.attention_norm.bias),
        cross_norm=layer.cross_norm.scale,
        cross_attention=_folded(layer.cross_attention, layer.cross_norm.bias, encoder_norm.bias),
        mlp_norm=layer.mlp_norm.scale,
        fc1=_shifted(layer.fc1, layer.mlp_norm.bias),
        fc2=layer.fc2,
    )


def _shifted(layer: Linear, shift: Array) -> Linear:
    """Return a layer that gives for ``x`` what ``layer`` gives for ``x + shift``."""
    bias = shift @ layer.matrix
    return Linear(layer.matrix, bias if layer.bias is None else bias + layer.bias)


def _folded(attention: Attention, to_queries: Array, to_frames: Array) -> Attention:
    """Return equal attention to inputs without these biases.

    A bias of the keys changes all scores of a query alike, so the shares stay. Shares add up to 1, so a bias of the values passes
    unchanged, into that of the output.
    """
    value = _shifted(attention.value, to_frames)
    output = attention.output
    return Attention(
        query=_shifted(attention.query, to_queries),
        key=Linear(attention.key.matrix),
        value=Linear(value.matrix),
        output=_shifted(output, np.asarray(value.bias, np.float32)),
    )
