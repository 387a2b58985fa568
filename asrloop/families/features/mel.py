"""Log-mel features of NVIDIA NeMo models as an ONNX graph, so that their maths exists once and ships with the model."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from asrloop.audio import SAMPLE_RATE

HOP = 160
"""Samples from one feature frame to the next: 10 ms."""

FFT = 512
WINDOW = 400

# NeMo's AudioToMelSpectrogramPreprocessor with its published defaults: pre-emphasis, centred frames, power spectrum,
# log with a guard, then every mel band normalised over the valid frames of its own utterance. Double precision in the
# spectrum, where NeMo's float32 loses most, keeps the result within float32 rounding of any other faithful implementation.
_GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
mel (float[batch, samples] waveforms, int64[batch] waveforms_lens)
    => (float[batch, bands, frames] features, int64[batch] features_lens) {
  zero = Constant <value = int64 {0}> ()
  one = Constant <value = int64 {1}> ()
  axis_1 = Constant <value = int64[1] {1}> ()
  axis_2 = Constant <value = int64[1] {2}> ()
  hop = Constant <value = int64 {160}> ()
  zero_f = Constant <value = float {0.0}> ()

  pad_before = Constant <value = int64[4] {0, 1, 0, -1}> ()
  previous = Pad (waveforms, pad_before)
  preemphasis = Constant <value = float {0.97}> ()
  scaled = Mul (previous, preemphasis)
  emphasised = Sub (waveforms, scaled)
  samples_shape = Shape <start = 1, end = 2> (waveforms)
  samples_scalar = Squeeze (samples_shape)
  sample_index = Range (zero, samples_scalar, one)
  lens_column = Unsqueeze (waveforms_lens, axis_1)
  sample_valid = Less (sample_index, lens_column)
  clean = Where (sample_valid, emphasised, zero_f)

  pad_half = Constant <value = int64[4] {0, 256, 0, 256}> ()
  centred = Pad (clean, pad_half)
  wide = Cast <to = 11> (centred)
  signal = Unsqueeze (wide, axis_2)
  spectrum = STFT <onesided = 1> (signal, hop, window)
  squared = Mul (spectrum, spectrum)
  last = Constant <value = int64[1] {-1}> ()
  power_wide = ReduceSum <keepdims = 0> (squared, last)
  power = Cast <to = 1> (power_wide)
  energies = MatMul (power, filters)
  guard = Constant <value = float {5.9604645e-08}> ()
  guarded = Add (energies, guard)
  log_mel = Log (guarded)

  features_lens = Div (waveforms_lens, hop)
  frames_shape = Shape <start = 1, end = 2> (log_mel)
  frames_scalar = Squeeze (frames_shape)
  frame_index = Range (zero, frames_scalar, one)
  column = Unsqueeze (features_lens, axis_1)
  frame_valid_2d = Less (frame_index, column)
  frame_valid = Unsqueeze (frame_valid_2d, axis_2)
  one_f = Constant <value = float {1.0}> ()
  count_2d = Cast <to = 1> (column)
  count_any = Unsqueeze (count_2d, axis_2)
  count = Max (count_any, one_f)
  count_less_one = Sub (count, one_f)
  freedom = Max (count_less_one, one_f)

  valid_mel = Where (frame_valid, log_mel, zero_f)
  total = ReduceSum (valid_mel, axis_1)
  mean = Div (total, count)
  difference = Sub (log_mel, mean)
  deviation = Where (frame_valid, difference, zero_f)
  deviation_squared = Mul (deviation, deviation)
  scatter = ReduceSum (deviation_squared, axis_1)
  variance = Div (scatter, freedom)
  spread = Sqrt (variance)
  tiny = Constant <value = float {1e-05}> ()
  divisor = Add (spread, tiny)
  normalised = Div (deviation, divisor)
  features = Transpose <perm = [0, 2, 1]> (normalised)
}
"""


def build_mel(bands: int) -> onnx.ModelProto:
    """Return the graph for ``bands`` mel bands.

    Inputs: ``waveforms`` f32 [B, N] at 16 kHz, ``waveforms_lens`` i64 [B] valid samples. Outputs: ``features`` f32
    [B, bands, 1 + N // 160], zero after each utterance's end, and ``features_lens`` i64 [B] = ``waveforms_lens // 160``.
    Names and layout are those of onnx-asr's ``nemo128.onnx``.
    """
    model = onnx.parser.parse_model(_GRAPH)
    margin = (FFT - WINDOW) // 2
    window = np.pad(np.hanning(WINDOW), margin)
    model.graph.initializer.append(numpy_helper.from_array(window, "window"))
    model.graph.initializer.append(numpy_helper.from_array(mel_filters(bands), "filters"))
    shape = model.graph.output[0].type.tensor_type.shape
    shape.dim[1].dim_value = bands
    onnx.checker.check_model(model, full_check=True)
    return model


def mel_filters(bands: int, fft: int = FFT) -> NDArray[np.float32]:
    """Return triangular filters f32 [fft / 2 + 1, bands] from 0 to 8 kHz on Slaney's mel scale, each of equal area.

    Slaney, "Auditory Toolbox", Interval Research technical report 1998-010: linear below 1 kHz, logarithmic above.
    """
    edges = _hertz(np.linspace(0.0, _mel(SAMPLE_RATE / 2), bands + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, fft // 2 + 1)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters: NDArray[np.float32] = (triangles * 2.0 / (edges[2:] - edges[:-2])).astype(np.float32)
    return filters


_LINEAR = 200.0 / 3.0  # hertz a mel below the knee
_KNEE = 1000.0  # hertz
_STEP = np.log(6.4) / 27.0  # natural log of frequency a mel above the knee


def _mel(hertz: float) -> float:
    return hertz / _LINEAR if hertz < _KNEE else _KNEE / _LINEAR + float(np.log(hertz / _KNEE) / _STEP)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = _KNEE / _LINEAR
    above: NDArray[np.float64] = _KNEE * np.exp(_STEP * (np.maximum(mel, knee) - knee))
    return np.where(mel < knee, mel * _LINEAR, above)
