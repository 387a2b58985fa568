"""Writes the graph of the Silero voice activity detector anew, with products of matrices in place of its convolutions.

They go over the four columns of a frame's spectrum, for which ONNX Runtime's convolutions are slow: a frame of many takes 16
instead of 50 us. Probabilities stay the same but for the order of sums.

Source: Silero VAD 6.2 (MIT), ``silero_vad_16k_sequence.onnx``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from asrloop.onnx_files.graph_writer import GraphWriter

_SAMPLES, _MIRRORED = 64 + 512, 64
"""What the network hears of a frame: 64 samples before it and its own 512, then its last 64 once more, backwards."""

_HOP = 128
"""Samples from one column of the spectrum to the next. Each column is of two hops."""

_STRIDES = 1, 2, 2, 1
"""Columns from one output of a layer to the next, for each layer behind the spectrum. Each hears a column and its neighbours."""

_HIDDEN = 128


def write(source: Path, target: Path) -> None:
    """Write to ``target`` the detector in ``source``: ``input`` f32 [frames, 576] and the state before them, ``h`` and ``c`` f32
    [1, 1, 128] -> ``speech_probs`` f32 [frames] and the state behind them, ``hn`` and ``cn``."""
    theirs = onnx.load(source).graph
    weights = {one.name: numpy_helper.to_array(one) for one in theirs.initializer}
    (lstm,) = (node for node in theirs.node if node.op_type == "LSTM")
    recurrent = dict(zip("WRB", (weights[name] for name in lstm.input[1:4]), strict=True))
    onnx.save(_detector(weights, recurrent).model("speech_detector"), target)


def _detector(weights: Mapping[str, NDArray[Any]], recurrent: Mapping[str, NDArray[Any]]) -> GraphWriter:
    out = GraphWriter()
    heard = out.input("input", np.float32, ["frames", _SAMPLES])
    state = [out.input(name, np.float32, [1, 1, _HIDDEN]) for name in ("h", "c")]
    heard = out.node("Pad", [heard, out.constant("mirrored", np.array([0, 0, 0, _MIRRORED]))], "sound", mode="reflect")
    hops = (_SAMPLES + _MIRRORED) // _HOP
    heard = out.node("Reshape", [heard, out.constant("hops", np.array([0, hops, _HOP]))], "hop_by_hop")
    heard = _magnitudes(out, _beside(out, heard, 2, hops - 1, 1), weights["stft.forward_basis_buffer"])
    columns = hops - 1
    for number, stride in enumerate(_STRIDES):
        columns = (columns + stride - 1) // stride
        padded = out.node("Pad", [heard, out.constant("around", np.array([0, 1, 0, 0, 1, 0]))], f"{heard}_padded")
        heard = _beside(out, padded, 3, columns, stride)
        kernel = weights[f"encoder.{number}.weight"].transpose(2, 1, 0)
        heard = _product(out, heard, kernel.reshape(-1, kernel.shape[2]), weights[f"encoder.{number}.bias"])
        heard = out.node("Relu", [heard], f"layer_{number}")
    by_frame = out.constant("by_frame", np.array([-1, 1, _HIDDEN]))
    constants = [out.constant(name, value) for name, value in recurrent.items()]
    inputs = [out.node("Reshape", [heard, by_frame], "in_order"), *constants, "", *state]
    said, *_ = out.nodes("LSTM", inputs, ["said", "hn", "cn"], hidden_size=_HIDDEN)
    logit = _product(out, out.node("Relu", [said], "active"), weights["output.weight"][0], weights["output.bias"])
    probability = out.node("Sigmoid", [logit], "probability")
    out.node("Reshape", [probability, out.constant("flat", np.array([-1]))], "speech_probs")
    out.output("speech_probs", np.float32, ["frames"])
    for name in ("hn", "cn"):
        out.output(name, np.float32, [1, 1, _HIDDEN])
    return out


def _beside(out: GraphWriter, rows: str, width: int, count: int, stride: int) -> str:
    """Return f32 [frames, count, width * size]: ``width`` neighbours of ``rows`` f32 [frames, N, size] joined, ``stride`` apart."""
    places = stride * np.arange(count)[:, None] + np.arange(width)
    taken = out.node("Gather", [rows, out.constant(f"{rows}_places", places)], f"{rows}_taken", axis=1)
    return out.node("Reshape", [taken, out.constant(f"rows_{count}", np.array([0, count, -1]))], f"{rows}_beside")


def _magnitudes(out: GraphWriter, windows: str, waves: NDArray[Any]) -> str:
    """Return the magnitudes of the spectra of ``windows``; ``waves`` f32 [2 * bins, 1, samples] are cosines, then sines."""
    spectrum = out.node("MatMul", [windows, out.constant("waves", waves[:, 0].T)], "spectrum")
    parts = out.nodes("Split", [spectrum], ["real", "imaginary"], axis=2, num_outputs=2)
    energy = out.node("Add", [out.node("Mul", [part, part], f"{part}_square") for part in parts], "energy")
    return out.node("Sqrt", [energy], "magnitude")


def _product(out: GraphWriter, rows: str, matrix: NDArray[Any], bias: NDArray[Any]) -> str:
    product = out.node("MatMul", [rows, out.constant(f"{rows}_matrix", matrix)], f"{rows}_product")
    return out.node("Add", [product, out.constant(f"{rows}_bias", bias)], f"{rows}_sum")
