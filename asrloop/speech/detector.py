"""The Silero voice activity detector, version 6.2 (MIT): gives the probability of speech for each 32 ms of 16 kHz audio."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.onnx_files.sessions import open_graph
from asrloop.wheels import DETECTOR

FRAME = 512
"""Samples of one frame, 32 ms: the detector gives one probability for each."""

_CONTEXT = 64
"""Samples before each frame that the network sees as well."""


class Heard(NamedTuple):
    """State of the detector after some audio; pass it in with the samples that follow."""

    last: NDArray[np.float32]
    """f32 [64]"""

    h: NDArray[np.float32]
    """f32 [1, 1, 128], as ``c``"""

    c: NDArray[np.float32]


Detector = Callable[[NDArray[np.float32], Heard], tuple[NDArray[np.float32], Heard]]
"""The call of a SpeechDetector, so that a test can stand in for it."""

NOTHING = Heard(np.zeros(_CONTEXT, np.float32), *np.zeros((2, 1, 1, 128), np.float32))
"""State before the first sample."""


def frames_in(seconds: float) -> int:
    """Return the nearest number of frames."""
    return round(seconds * SAMPLE_RATE / FRAME)


class SpeechDetector:
    """Runs the network. Keeps no state, so one serves any number of recordings and threads."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError where a prepared model lacks it."""
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; make the models again with `asrloop models --force`")
        self._graph = open_graph(path, threads=1)

    def __call__(self, samples: NDArray[np.float32], before: Heard = NOTHING) -> tuple[NDArray[np.float32], Heard]:
        """Return a probability for each frame of ``samples``, f32 [frames], and the state behind them.

        ``samples`` are f32 [N], N >= 1; the last frame is filled up with silence.
        """
        count = -(-samples.size // FRAME)
        audio = np.zeros(_CONTEXT + count * FRAME, np.float32)
        audio[:_CONTEXT] = before.last
        audio[_CONTEXT : _CONTEXT + samples.size] = samples
        frames = np.lib.stride_tricks.sliding_window_view(audio, _CONTEXT + FRAME)[::FRAME]
        outputs = self._graph({"input": np.ascontiguousarray(frames), "h": before.h, "c": before.c})
        return outputs["speech_probs"], Heard(audio[-_CONTEXT:], outputs["hn"], outputs["cn"])


def open_detector(directory: Path) -> SpeechDetector:
    """Open the detector of the prepared model in ``directory``. Raises FileNotFoundError when the model is too old to have one."""
    return SpeechDetector(directory / DETECTOR)
