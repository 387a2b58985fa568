"""Kaldi's log mel filter banks, as WeSpeaker trains with: 25 ms each 10 ms, 80 bands, a Hamming window, no dither.

Source: Kaldi, src/feat/feature-fbank.cc and mel-computations.cc.
"""

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, Samples

BANDS = 80
WINDOW, HOP = 400, 160
_FFT = 512
_LOWEST = 20.0  # hertz
_PREEMPHASIS = 0.97
_FULL_SCALE = 32768.0
_LEAST = float(np.finfo(np.float32).eps)


def fbank(samples: Samples) -> NDArray[np.float32]:
    """Return f32 [frames, 80] of ``samples`` f32 [N], 16 kHz in -1..1; only whole frames, so N >= 400 for any."""
    if samples.size < WINDOW:
        return np.zeros((0, BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples * np.float32(_FULL_SCALE), WINDOW)[::HOP]
    centred = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([centred[:, :1], centred[:, :-1]], axis=1)
    spectrum = np.fft.rfft((centred - np.float32(_PREEMPHASIS) * before) * _HAMMING, _FFT)[:, :-1]
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return np.asarray(np.log(np.maximum(power @ _FILTERS, _LEAST)), np.float32)


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))


def _filters() -> NDArray[np.float32]:
    """Return triangles f32 [256, 80], straight on the mel scale. Kaldi leaves the highest frequency out."""
    mels = _mel(np.arange(_FFT // 2) * SAMPLE_RATE / _FFT)
    lowest, highest = _mel(np.array([_LOWEST, SAMPLE_RATE / 2]))
    edges = np.linspace(lowest, highest, BANDS + 2)
    rising = (mels[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mels[:, None]) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)), np.float32)


_HAMMING = np.hamming(WINDOW).astype(np.float32)
_FILTERS = _filters()
