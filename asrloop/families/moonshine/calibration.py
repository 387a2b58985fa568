"""Calibration: runs the fp32 graphs on real speech and observes the input of every multiplication."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.families.moonshine.decoder_graph import cache_head_size, decoder_step
from asrloop.families.moonshine.encoder_graph import encoder
from asrloop.families.moonshine.weights import MoonshineConfig, MoonshineWeights
from asrloop.families.quantize.calibration import WatchedSession, pieces
from asrloop.families.quantize.layer import Array
from asrloop.families.quantize.linear import Float32
from asrloop.families.quantize.observation import CrossLimit, Observations

TOKENS_PER_SECOND = 6.5
"""Limit of decoded tokens a second, above the rate of the recordings: a decoder that repeats itself teaches nothing."""


def observe(weights: MoonshineWeights, speech: Sequence[Array]) -> Observations:
    """Return observations of all layers over ``speech`` (f32 [N] at 16 kHz each)."""
    linear = Float32()
    encoder_run = WatchedSession(encoder(weights, linear), linear.inputs)
    linear = Float32()
    decoder_run = WatchedSession(decoder_step(weights, linear), linear.inputs)
    limits = [CrossLimit(*np.zeros((2, weights.config.hidden_size), np.float32)) for _ in weights.decoder_layers]
    for piece in pieces(speech):
        cross = encoder_run({"audio": piece[None]})
        _decode(decoder_run, weights.config, cross, int(piece.size / SAMPLE_RATE * TOKENS_PER_SECOND) + 1)
        limits = [_raised(limit, cross, layer, weights.config) for layer, limit in enumerate(limits)]
        encoder_run.digest()
        decoder_run.digest()
    return Observations(encoder_run.observed, decoder_run.observed, limits)


def _raised(limit: CrossLimit, cross: Mapping[str, NDArray[Any]], layer: int, config: MoonshineConfig) -> CrossLimit:
    """Return ``limit``, raised to the magnitudes in ``cross``."""
    key, value = (
        np.abs(cross[f"cross_{part}_{layer}"][0, :, :, : config.head_size]).max(axis=1).reshape(-1)
        for part in ("key", "value")
    )
    return CrossLimit(np.maximum(limit.key, key), np.maximum(limit.value, value))


def _decode(run: WatchedSession, config: MoonshineConfig, cross: Mapping[str, NDArray[Any]], limit: int) -> None:
    """Run greedy search over one utterance."""
    shape = (1, config.heads, limit, cache_head_size(config))
    parts = [f"{part}_{layer}" for layer in range(config.decoder_layers) for part in ("key", "value")]
    caches = {f"past_{part}": np.zeros(shape, np.float32) for part in parts}
    frames = np.array([cross["cross_key_0"].shape[2]], np.int32)
    token = np.array([[config.bos]])
    for length in range(limit):
        fed = {"tokens": token, "lengths": np.array([length], np.int32), "frames": frames}
        results = run({**fed, **caches, **cross})
        token = results["next_tokens"]
        if token[0, 0] == config.eos:
            return
        caches = {f"past_{part}": results[f"present_{part}"] for part in parts}
