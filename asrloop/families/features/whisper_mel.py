"""Log-mel features of Whisper (Radford et al. 2022) as nodes of a graph.

Frames of 25 ms every 10 ms, centred, a periodic Hann window, power, mel bands, the logarithm to base 10 down to 80 dB below the
loudest. The transform is a convolution with its cosines and sines: for a length of 400 ONNX Runtime's STFT is slower.
"""

import numpy as np
from numpy.typing import NDArray

from asrloop.families.features.mel import mel_filters
from asrloop.onnx_files.graph_writer import GraphWriter

FFT, HOP = 400, 160
BINS = FFT // 2 + 1
LEAST_POWER = 1e-10
DECADES = 8.0


def whisper_mel(graph: GraphWriter, audio: str, bands: int) -> str:
    """Write the features of ``audio`` f32 [1, samples], of more than 200 samples and a multiple of 160.

    Returns f32 [1, bands, samples / 160].
    """
    half = FFT // 2
    # Centred at every hop but the last one, which begins where the audio ends.
    ends = graph.constant("mel.ends", np.array([0, half, 0, half - HOP]))
    padded = graph.node("Pad", [audio, ends], "mel.padded", mode="reflect")
    wave = graph.node("Unsqueeze", [padded, graph.constant("axis", np.ones(1, np.int64))], "mel.wave")
    spectrum = graph.node("Conv", [wave, graph.constant("mel.waves", _waves()[:, None])], "mel.spectrum", strides=[HOP])
    squared = graph.node("Mul", [spectrum, spectrum], "mel.squared")
    parts = graph.nodes("Split", [squared], ["mel.real", "mel.imaginary"], axis=1, num_outputs=2)
    power = graph.node("Add", parts, "mel.power")
    filters = graph.constant("mel.filters", np.ascontiguousarray(mel_filters(bands, FFT).T))
    energies = graph.node("MatMul", [filters, power], "mel.energies")
    heard = graph.node("Max", [energies, graph.constant("mel.least", LEAST_POWER, np.float32)], "mel.heard")
    nats = graph.node("Log", [heard], "mel.nats")
    log_mel = graph.node("Mul", [nats, graph.constant("mel.decade", 1 / np.log(10), np.float32)], "mel.decades")
    loudest = graph.node("ReduceMax", [log_mel], "mel.loudest", keepdims=0)
    floor = graph.node("Sub", [loudest, graph.constant("mel.range", DECADES, np.float32)], "mel.floor")
    kept = graph.node("Max", [log_mel, floor], "mel.kept")
    raised = graph.node("Add", [kept, graph.constant("mel.four", 4.0, np.float32)], "mel.raised")
    return graph.node("Mul", [raised, graph.constant("mel.quarter", 0.25, np.float32)], "mel")


def _waves() -> NDArray[np.float32]:
    """Return cosines and then sines of all frequencies under the window, f32 [2 * BINS, FFT]."""
    angles = 2 * np.pi * np.outer(np.arange(BINS), np.arange(FFT)) / FFT
    window = np.hanning(FFT + 1)[:-1]
    return np.asarray(np.concatenate([np.cos(angles) * window, np.sin(angles) * window]), np.float32)
