"""K/V of all rows in main memory. One on a device would have the same ``put``, ``exchange``, ``take_over`` and ``bind``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop.onnx_files.sessions import Tensors

LOGITS_IN_BLOCK = 256
"""Logits of a block in the search for the greatest."""

Zeros = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes and tokens of a decoder's graph."""

    layers: int
    heads: int
    cache_head_size: int
    """Components of a head in the K/V of decided tokens, f32."""

    cross_head_size: int
    """Components of a head in the K/V of the encoder's frames."""

    cross_type: str
    """NumPy name of the element type of the frames' K/V."""

    vocabulary_size: int
    bos: int
    eos: int
    head_size: int = 0
    """Components of a head before it was widened: attention is scaled by their root."""

    alignment_heads: tuple[tuple[int, int], ...] = ()
    """Layer and head of the cross-attention that follows the speech best; the graph gives the queries of these layers."""

    not_first: tuple[int, ...] = ()
    """Tokens that a text never begins with."""

    languages: int = 0
    """Number of languages that the graph tells apart; it then gives ``language_logits``."""

    picks_rows: bool = False
    """True for a graph that decides for the rows named in ``wanted`` alone."""

    @property
    def padded_vocabulary(self) -> int:
        """Size of the log probabilities of a step: whole blocks."""
        return -(-self.vocabulary_size // LOGITS_IN_BLOCK) * LOGITS_IN_BLOCK

    @property
    def query_layers(self) -> tuple[int, ...]:
        return tuple(sorted({layer for layer, _ in self.alignment_heads}))


def query_name(layer: int) -> str:
    """Return the name of the output with the queries of a layer's cross-attention, f32 [rows, 1, heads * cross_head_size]."""
    return f"layer{layer}.cross.query"


class Memory:
    """Cached K/V [rows, heads, tokens, cache_head_size] and cross K/V [rows, heads, frames, cross_head_size] of every layer.

    Everything is zero at first, so that untouched rows take no memory.
    """

    def __init__(
        self, sizes: DecoderSizes, rows: int, token_capacity: int, frame_capacity: int, zeros: Zeros = np.zeros
    ) -> None:
        names = [f"{part}_{layer}" for layer in range(sizes.layers) for part in ("key", "value")]
        cache = (rows, sizes.heads, token_capacity, sizes.cache_head_size)
        cross = (rows, sizes.heads, frame_capacity, sizes.cross_head_size)
        self.cache = {name: zeros(cache, np.dtype(np.float32)) for name in names}
        self.cross = {f"cross_{name}": zeros(cross, np.dtype(sizes.cross_type)) for name in names}

    def put(self, row: int, cross: Tensors, frames: int) -> None:
        """Copy an utterance's cross K/V, each [1, heads, ``frames``, cross_head_size], into ``row``."""
        for name, buffer in self.cross.items():
            buffer[row, :, :frames] = cross[name][0]

    def exchange(self, one: int, other: int, tokens: tuple[int, int], frames: tuple[int, int]) -> None:
        """Swap two rows. Only their used ``tokens`` and ``frames`` (of ``one``, of ``other``) are copied."""
        for buffers, (of_one, of_other) in ((self.cache, tokens), (self.cross, frames)):
            for buffer in buffers.values():
                kept = buffer[other, :, :of_other].copy()
                buffer[other, :, :of_one] = buffer[one, :, :of_one]
                buffer[one, :, :of_other] = kept

    def take_over(self, row: int, other: "Memory", tokens: int) -> None:
        """Copy the cached K/V of the first ``tokens`` in the first row of ``other`` into ``row``."""
        for name, buffer in self.cache.items():
            buffer[row, :, :tokens] = other.cache[name][0, :, :tokens]

    def bind(self, binding: ort.IOBinding, rows: int) -> None:
        """Bind the first ``rows`` rows to a session's inputs and to the outputs that update them in place."""
        for name, cache in self.cache.items():
            bind_array(binding.bind_input, f"past_{name}", cache, rows)
            bind_array(binding.bind_output, f"present_{name}", cache, rows)
        for name, cross in self.cross.items():
            bind_array(binding.bind_input, name, cross, rows)
            if cross.dtype == np.int8:  # the operator gives them back, unchanged
                bind_array(binding.bind_output, f"kept_{name}", cross, rows)


def bind_array(bind: Callable[..., None], name: str, array: NDArray[Any], rows: int) -> None:
    """Pass the memory of the first ``rows`` rows of ``array`` to ``bind``, ``bind_input`` or ``bind_output`` of an IOBinding."""
    bind(name, "cpu", 0, array.dtype.type, (rows, *array.shape[1:]), array.ctypes.data)
