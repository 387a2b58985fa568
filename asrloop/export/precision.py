"""The precision recipes: which numbers a prepared model computes with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from asrloop.export.calibration import observe
from asrloop.export.linear import Choice, Float32, LinearWriter, RowInt8, StaticInt8
from asrloop.export.moonshine_decoder import decoder_step
from asrloop.export.moonshine_encoder import encoder
from asrloop.export.observation import Observation
from asrloop.export.smoothing import smooth
from asrloop.export.weights import Array, MoonshineWeights

DEFAULT = "int8"
PRECISIONS = {
    "int8": "8-bit activations and 7-bit weights in encoder and decoder; fastest",
    "int8-decoder": "the decoder as in int8, the encoder in fp32",
    "fp32": "fp32 throughout; the reference",
}
"""Recipes by name. Under all of them a row's numbers depend on nothing but the row."""


@dataclass(frozen=True)
class Graphs:
    """The two models, and what travels between them."""

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
    in_decoder = _integers(seen.decoder)
    in_encoder = Float32() if precision == "int8-decoder" else _integers(seen.encoder)
    return Graphs(encoder(smoothed, in_encoder, compact=True), decoder_step(smoothed, in_decoder, compact=True), "int8")


def _integers(observed: Mapping[str, Observation]) -> LinearWriter:
    """What reaches fc2 and conv2 did not come out of a norm of its own row, so its size differs by orders of magnitude from
    row to row. conv3's inputs have outliers that no scale serves: in integers it alone costs a point of word error rate."""
    by_row = RowInt8(observed)
    return Choice("conv3", Float32(), Choice("conv2", by_row, Choice(".fc2", by_row, StaticInt8(observed))))
