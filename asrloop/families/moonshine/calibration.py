"""Calibration: runs the fp32 graphs on real speech and observes the input of every multiplication."""

from collections.abc import Sequence

from asrloop.audio import SAMPLE_RATE
from asrloop.families.moonshine.decoder_graph import decoder_step, sizes
from asrloop.families.moonshine.encoder_graph import encoder
from asrloop.families.moonshine.weights import MoonshineWeights
from asrloop.families.quantize import calibration
from asrloop.families.quantize.calibration import WatchedSession, pieces
from asrloop.families.quantize.layer import Array
from asrloop.families.quantize.linear import Float32
from asrloop.families.quantize.observation import Observations

TOKENS_PER_SECOND = 6.5
"""Limit of decoded tokens a second, above the rate of the recordings: a decoder that repeats itself teaches nothing."""


def observe(weights: MoonshineWeights, speech: Sequence[Array]) -> Observations:
    """Return observations of all layers over ``speech`` (f32 [N] at 16 kHz each)."""
    linear = Float32()
    encoder_run = WatchedSession(encoder(weights, linear), linear.inputs)
    linear = Float32()
    decoder_run = WatchedSession(decoder_step(weights, linear), linear.inputs)
    audios = [(piece, int(piece.size / SAMPLE_RATE * TOKENS_PER_SECOND) + 1) for piece in pieces(speech)]
    return calibration.observe(encoder_run, decoder_run, sizes(weights.config, "float32"), audios)
