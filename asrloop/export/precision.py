"""The precision recipes: which numbers a prepared model computes with."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import ModelProto

from asrloop.export.calibration import observe
from asrloop.export.linear import Choice, Float32, RowInt8, StaticInt8
from asrloop.export.moonshine_decoder import decoder_step
from asrloop.export.moonshine_encoder import encoder
from asrloop.export.smoothing import smooth
from asrloop.export.weights import Array, MoonshineWeights

DEFAULT = "int8"
PRECISIONS = {
    "int8": "8-bit activations with constant scales and 7-bit weights, in encoder and decoder; fastest",
    "int8-decoder": "the decoder as in int8, the encoder in fp32",
    "fp32": "fp32 throughout; the reference",
}
"""Recipes by name. Under all of them a row's numbers depend on nothing but the row."""


@dataclass(frozen=True)
class Graphs:
    encoder: ModelProto
    decoder: ModelProto
    cross_type: str
    """NumPy name of the element type of the cross K/V between the two."""


def graphs(weights: MoonshineWeights, precision: str, speech: Sequence[Array]) -> Graphs:
    """Write both graphs. ``speech`` (f32 [N] at 16 kHz each) is only read for the integer recipes, to calibrate them."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return Graphs(encoder(weights, Float32()), decoder_step(weights, Float32()), "float32")
    smoothed, seen = smooth(weights, observe(weights, speech))
    # The product of values and opened gate differs by orders of magnitude from token to token.
    in_decoder = Choice(".fc2", RowInt8(seen.decoder), StaticInt8(seen.decoder))
    in_encoder = Float32() if precision == "int8-decoder" else StaticInt8(seen.encoder)
    return Graphs(encoder(smoothed, in_encoder, compact=True), decoder_step(smoothed, in_decoder, compact=True), "int8")
