"""The precision recipes: which numbers a prepared model computes with. Under all of them a row depends on nothing but itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from asrloop.families.moonshine.calibration import observe
from asrloop.families.moonshine.decoder_graph import decoder_step
from asrloop.families.moonshine.encoder_graph import encoder
from asrloop.families.moonshine.linear import Choice, Float32, LinearWriter, RowInt8, StaticInt8
from asrloop.families.moonshine.observation import Observation
from asrloop.families.moonshine.smoothing import smooth
from asrloop.families.moonshine.weights import Array, MoonshineWeights


@dataclass(frozen=True)
class Graphs:
    """The two models, and what travels between them."""

    encoder: ModelProto
    decoder: ModelProto
    cross_type: str
    """NumPy name of the element type of the cross K/V between the two."""


def graphs(weights: MoonshineWeights, precision: str, speech: Sequence[Array]) -> Graphs:
    """Write both graphs. ``speech`` (f32 [N] at 16 kHz each) is only read for the integer recipes, to calibrate them."""
    if precision == "fp32":
        return Graphs(encoder(weights, Float32()), decoder_step(weights, Float32()), "float32")
    if precision not in ("int8", "int8-decoder"):
        raise ValueError(f"precision is {precision!r}: there are int8, int8-decoder and fp32")
    smoothed, seen = smooth(weights, observe(weights, speech))
    in_decoder = _integers(seen.decoder)
    in_encoder = Float32() if precision == "int8-decoder" else _integers(seen.encoder)
    return Graphs(encoder(smoothed, in_encoder, compact=True), decoder_step(smoothed, in_decoder, compact=True), "int8")


def _integers(observed: Mapping[str, Observation]) -> LinearWriter:
    """What reaches fc2 and conv2 did not come out of a norm of its own row, so its size differs by orders of magnitude from
    row to row. conv3's inputs have outliers that no scale serves: in integers it alone costs a point of word error rate."""
    by_row = RowInt8(observed)
    return Choice("conv3", Float32(), Choice("conv2", by_row, Choice(".fc2", by_row, StaticInt8(observed))))
