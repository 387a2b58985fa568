"""Kaldi's log mel filter banks as nodes of a graph, as WeSpeaker trains with: 25 ms each 10 ms, 80 bands, Hamming, no dither.

Taking the mean away, pre-emphasis, window and Fourier transform are linear, so they are one convolution. Source: Kaldi,
src/feat/feature-fbank.cc and mel-computations.cc.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, helper, numpy_helper

from asrloop.audio import SAMPLE_RATE

BANDS = 80
WINDOW, HOP = 400, 160
_FFT = 512
_BINS = _FFT // 2  # Kaldi leaves the highest frequency out
_LOWEST = 20.0  # hertz
_PREEMPHASIS = 0.97
_FULL_SCALE = 32768.0
_LEAST = float(np.finfo(np.float32).eps)


def prepend(graph: GraphProto, samples: str, features: str) -> None:
    """Write, before all nodes of ``graph``, ``features`` f32 [B, frames, 80] of ``samples`` f32 [B, N], 16 kHz in -1..1.

    Only whole frames count, and the mean of each band is taken away.
    """
    constants: dict[str, NDArray[Any]] = {
        "fbank.axis": np.ones(1, np.int64),
        "fbank.waves": _waves()[:, None],
        "fbank.filters": _filters(),
        "fbank.least": np.array(_LEAST, np.float32),
    }
    nodes = [
        helper.make_node("Unsqueeze", [samples, "fbank.axis"], ["fbank.wave"]),
        helper.make_node("Conv", ["fbank.wave", "fbank.waves"], ["fbank.spectrum"], strides=[HOP]),
        helper.make_node("Mul", ["fbank.spectrum", "fbank.spectrum"], ["fbank.squared"]),
        helper.make_node("Split", ["fbank.squared"], ["fbank.real", "fbank.imaginary"], axis=1),
        helper.make_node("Add", ["fbank.real", "fbank.imaginary"], ["fbank.power"]),
        helper.make_node("Transpose", ["fbank.power"], ["fbank.frames"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["fbank.frames", "fbank.filters"], ["fbank.energies"]),
        helper.make_node("Max", ["fbank.energies", "fbank.least"], ["fbank.heard"]),
        helper.make_node("Log", ["fbank.heard"], ["fbank.log"]),
        helper.make_node("ReduceMean", ["fbank.log"], ["fbank.mean"], axes=[1]),
        helper.make_node("Sub", ["fbank.log", "fbank.mean"], [features]),
    ]
    for node in nodes:
        node.name = node.output[0]
    theirs = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *theirs])
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())


def _waves() -> NDArray[np.float32]:
    """Return f32 [512, 400]: of each frame the real, then the imaginary parts of all frequencies."""
    centred = np.eye(WINDOW) - 1 / WINDOW
    before = np.concatenate([centred[:1], centred[:-1]])
    windowed = np.hamming(WINDOW)[:, None] * (centred - _PREEMPHASIS * before)
    angles = 2 * np.pi * np.outer(np.arange(_BINS), np.arange(WINDOW)) / _FFT
    waves = np.concatenate([np.cos(angles), np.sin(angles)])
    return np.asarray(_FULL_SCALE * waves @ windowed, np.float32)


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))


def _filters() -> NDArray[np.float32]:
    """Return triangles f32 [256, 80], straight on the mel scale."""
    mels = _mel(np.arange(_BINS) * SAMPLE_RATE / _FFT)
    lowest, highest = _mel(np.array([_LOWEST, SAMPLE_RATE / 2]))
    edges = np.linspace(lowest, highest, BANDS + 2)
    rising = (mels[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mels[:, None]) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)), np.float32)
