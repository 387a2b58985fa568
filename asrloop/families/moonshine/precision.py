"""Precision recipes: the number types that a prepared model computes with. In all of them a row depends on nothing but itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from asrloop.families.moonshine.calibration import observe
from asrloop.families.moonshine.decoder_graph import decoder_step
from asrloop.families.moonshine.encoder_graph import encoder
from asrloop.families.moonshine.smoothing import smooth
from asrloop.families.moonshine.weights import MoonshineWeights
from asrloop.families.quantize.layer import Array
from asrloop.families.quantize.linear import Choice, Float32, LinearWriter, RowInt8, StaticInt8
from asrloop.families.quantize.observation import Observation
from asrloop.families.quantize.vnni import VNNI

GREATEST_WEIGHT = {VNNI: 127, "int8": 64, "int8-decoder": 64}
"""Greatest magnitude of a weight by integer recipe; see :class:`StaticInt8`."""

ROWS_OF_DECODER, ROWS_OF_ENCODER = 0, 1
"""Axis of the rows in the f32 [rows, 1, inputs] of the decoder and the [1, times, inputs] of the encoder."""

GELU_LEAST = 0.17
"""Minus the least value of GELU, rounded up."""


@dataclass(frozen=True)
class Graphs:
    """The two models and the type of the tensors that travel between them."""

    encoder: ModelProto
    decoder: ModelProto
    cross_type: str
    """NumPy name of the element type of the cross K/V between the two."""


def graphs(weights: MoonshineWeights, precision: str, speech: Sequence[Array]) -> Graphs:
    """Write both graphs. ``speech`` (f32 [N] at 16 kHz each) is only read for the integer recipes, to calibrate them."""
    if precision == "fp32":
        return Graphs(encoder(weights, Float32()), decoder_step(weights, Float32()), "float32")
    if precision not in GREATEST_WEIGHT:
        raise ValueError(f"precision is {precision!r}: there are {', '.join(GREATEST_WEIGHT)} and fp32")
    greatest = GREATEST_WEIGHT[precision]
    smoothed, seen = smooth(weights, observe(weights, speech))
    in_decoder = _integers(seen.decoder, greatest, RowInt8(seen.decoder, greatest, ROWS_OF_DECODER))
    in_encoder: LinearWriter = Float32()
    if precision != "int8-decoder":
        after_gelu = RowInt8(seen.encoder, greatest, ROWS_OF_ENCODER, least=GELU_LEAST)
        usual = _integers(seen.encoder, greatest, after_gelu)
        in_encoder = Choice("conv2", RowInt8(seen.encoder, greatest, ROWS_OF_ENCODER), usual)
        in_encoder = Choice("conv3", Float32(), in_encoder)
    return Graphs(encoder(smoothed, in_encoder, compact=True), decoder_step(smoothed, in_decoder, compact=True), "int8")


def _integers(observed: Mapping[str, Observation], greatest: int, for_fc2: LinearWriter) -> LinearWriter:
    """Return the writer of all layers, with ``for_fc2`` for fc2.

    Inputs of fc2 (and of the encoder's conv2) do not come out of a norm of their own row, so their size differs by orders of
    magnitude from row to row. conv3's inputs have outliers that no scale serves: in integers it alone costs a point of WER.
    """
    return Choice(".fc2", for_fc2, StaticInt8(observed, greatest))
