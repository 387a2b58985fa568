"""Weights of a Moonshine model (Jeffries et al. 2024, arXiv:2410.15608) as plain arrays, whatever file they came from."""

from dataclasses import dataclass

import numpy as np

from asrloop.families.quantize.layer import Array, DecoderLayer, EncoderLayer, Linear


@dataclass(frozen=True)
class MoonshineConfig:
    """Sizes and constants of the architecture."""

    hidden_size: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    vocabulary_size: int
    rotary_size: int
    """Number of a head's first components that are rotated by position."""
    rotary_base: float = 10000.0
    bos: int = 1
    eos: int = 2
    norm_epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.heads

    @property
    def alignment_heads(self) -> tuple[tuple[int, int], ...]:
        """Decoder layers and heads of the cross-attention that follow the speech best: measured for the size of tiny, see
        docs/words.md; for others all heads of a layer behind the middle, which is less exact."""
        if (self.decoder_layers, self.heads) == (6, 8):
            return ((4, 3), (4, 7))
        return tuple((2 * self.decoder_layers // 3, head) for head in range(self.heads))

    def rotary_tables(self, positions: int) -> tuple[Array, Array]:
        """Return cos and sin of the angle of every position and rotated pair, f32 [positions, rotary_size / 2] each."""
        pairs = np.arange(0, self.rotary_size, 2, dtype=np.float64)
        frequencies = self.rotary_base ** (-pairs / self.rotary_size)
        angles = np.arange(positions)[:, None] * frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


@dataclass(frozen=True)
class MoonshineWeights:
    """Convolutions are ``[outputs, inputs, width]``; conv1 has no bias. ``embedding`` is f32 [vocabulary, hidden]
    and, as the model was trained, the transpose of the head's matrix. fc1 of a decoder layer gives two halves: the values and the
    gate that is put through SiLU."""

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
