"""Precision recipes: the number types that a prepared model computes with. In all of them a row depends on nothing but itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto

from asrloop.audio import SAMPLE_RATE
from asrloop.families.quantize.calibration import WatchedSession, observe, pieces
from asrloop.families.quantize.layer import Array
from asrloop.families.quantize.linear import Choice, Float32, LinearWriter, RowInt8, StaticInt8
from asrloop.families.quantize.observation import Observation, Observations
from asrloop.families.quantize.smoothing import CrossUnit, Smoother
from asrloop.families.quantize.vnni import VNNI
from asrloop.families.whisper.context import context_samples
from asrloop.families.whisper.decoder_graph import decoder_step, sizes
from asrloop.families.whisper.encoder_graph import encoder
from asrloop.families.whisper.source import Tokens
from asrloop.families.whisper.weights import WhisperWeights

GREATEST_WEIGHT = {VNNI: 127, "int8": 64}
"""Greatest magnitude of a weight by integer recipe; see :class:`StaticInt8`."""

ROWS_OF_DECODER, ROWS_OF_ENCODER = 0, 1
"""Axis of the rows in the f32 [rows, 1, inputs] of the decoder and the [1, times, inputs] of the encoder."""

GELU_LEAST = 0.17
"""Minus the least value of GELU, rounded up."""

TOKENS_PER_SECOND = 5.5
"""Limit of decoded tokens a second in calibration."""


@dataclass(frozen=True)
class Graphs:
    """The two models and the type of the tensors that travel between them."""

    encoder: ModelProto
    decoder: ModelProto
    cross_type: str
    """NumPy name of the element type of the cross K/V between the two."""


def graphs(weights: WhisperWeights, tokens: Tokens, precision: str, speech: Sequence[Array]) -> Graphs:
    """Write both graphs. ``speech`` (f32 [N] at 16 kHz each) is only read for the integer recipes, to calibrate them."""
    if precision == "fp32":
        return Graphs(encoder(weights, Float32()), decoder_step(weights, tokens, Float32()), "float32")
    if precision not in GREATEST_WEIGHT:
        raise ValueError(f"precision is {precision!r}: there are {', '.join(GREATEST_WEIGHT)} and fp32")
    greatest = GREATEST_WEIGHT[precision]
    smoothed, seen = _smooth(weights, _observe(weights, tokens, speech))
    in_decoder = _integers(seen.decoder, greatest, ROWS_OF_DECODER)
    in_encoder = Choice("conv2", Float32(), _integers(seen.encoder, greatest, ROWS_OF_ENCODER))
    return Graphs(
        encoder(smoothed, in_encoder, compact=True), decoder_step(smoothed, tokens, in_decoder, compact=True), "int8"
    )


def _integers(observed: Mapping[str, Observation], greatest: int, rows: int) -> LinearWriter:
    """Return the writer of all layers. Inputs of fc2 come out of a GELU, so their size differs much from row to row."""
    return Choice(".fc2", RowInt8(observed, greatest, rows, least=GELU_LEAST), StaticInt8(observed, greatest))


def _observe(weights: WhisperWeights, tokens: Tokens, speech: Sequence[Array]) -> Observations:
    """Run the fp32 graphs on ``speech``, with the context that decoding gives it."""
    linear = Float32()
    encoder_run = WatchedSession(encoder(weights, linear), linear.inputs)
    linear = Float32()
    decoder_run = WatchedSession(decoder_step(weights, tokens, linear), linear.inputs)
    prefix: tuple[int, ...] = (tokens.sot, tokens.no_timestamps)
    if "en" in tokens.languages and tokens.transcribe is not None:
        prefix = (tokens.sot, tokens.languages["en"], tokens.transcribe, tokens.no_timestamps)
    most = weights.config.frames
    audios = [
        (
            np.pad(piece, (0, context_samples(piece.size, most) - piece.size)),
            int(piece.size / SAMPLE_RATE * TOKENS_PER_SECOND) + 1,
        )
        for piece in pieces(speech)
    ]
    return observe(encoder_run, decoder_run, sizes(weights.config, tokens, "float32"), audios, prefix)


def _smooth(weights: WhisperWeights, seen: Observations) -> tuple[WhisperWeights, Observations]:
    """Return an equal model with more even activations and with cross K/V that fill -127..127, and its observations."""
    config = weights.config
    encoder_smoother = Smoother(seen.encoder, config.encoder_heads)
    decoder_smoother = Smoother(seen.decoder, config.decoder_heads)
    encoder_layers = tuple(
        encoder_smoother.encoder_layer(layer, f"layer{index}") for index, layer in enumerate(weights.encoder_layers)
    )
    decoder_layers = tuple(
        decoder_smoother.decoder_layer(layer, f"layer{index}", CrossUnit.filling(seen.cross[index]))
        for index, layer in enumerate(weights.decoder_layers)
    )
    encoder_norm, decoder_layers = encoder_smoother.cross_projections(weights.encoder_norm, decoder_layers)
    factor = decoder_smoother.factor(["logits"], [weights.head])
    smoothed = replace(
        weights,
        encoder_layers=encoder_layers,
        encoder_norm=encoder_norm,
        decoder_layers=decoder_layers,
        decoder_norm=weights.decoder_norm / factor,
        decoder_norm_bias=weights.decoder_norm_bias / factor,
        head=weights.head.scale_inputs(factor),
    )
    return smoothed, Observations(encoder_smoother.observed, decoder_smoother.observed, seen.cross)
