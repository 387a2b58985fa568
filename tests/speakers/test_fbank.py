"""The features of the embedding against Kaldi's recipe, step by step."""

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from asrloop.speakers import fbank


def kaldi(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """compute-fbank-feats --window-type=hamming --dither=0 --num-mel-bins=80 --use-energy=false of 16-bit samples."""
    wave = samples.astype(np.float64) * 32768
    rows = []
    mels = 1127 * np.log(1 + np.arange(257) * 31.25 / 700)
    low, high = 1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 8000 / 700)
    width = (high - low) / 81
    for start in range(0, wave.size - 399, 160):
        frame = wave[start : start + 400].copy()
        frame -= frame.mean()
        frame[1:] -= 0.97 * frame[:-1].copy()
        frame[0] -= 0.97 * frame[0]
        frame *= 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(400) / 399)
        power = np.abs(np.fft.rfft(frame, 512)) ** 2
        row = []
        for band in range(80):
            left = low + band * width
            rising, falling = (mels - left) / width, (left + 2 * width - mels) / width
            weights = np.maximum(0, np.minimum(rising, falling))
            weights[256] = 0
            row.append(np.log(max(float(weights @ power), float(np.finfo(np.float32).eps))))
        rows.append(row)
    return np.array(rows)


def test_features_are_kaldis_less_their_mean(beckett: NDArray[np.float32]) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["features"], ["out"])],
        "features",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, [1, "n"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, "frames", 80])],
    )
    fbank.prepend(graph, "samples", "features")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString())
    # More of any level than steps of 16 bits: on digital silence the logarithm of rounding errors says nothing.
    noise = np.random.default_rng(0).normal(0, 1e-3, 20_007).astype(np.float32)
    for samples in (beckett[:20_007] + noise, 0.05 * beckett[30_000:50_007] + noise + 0.1):
        (ours,) = session.run(None, {"samples": samples[None].astype(np.float32)})
        theirs = kaldi(samples)
        np.testing.assert_allclose(ours[0], theirs - theirs.mean(axis=0), atol=0.02)
