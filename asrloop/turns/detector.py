"""Smart Turn, version 3.2 (BSD 2-Clause): says by the sound of the last seconds how probable it is that a speaker is done."""

import threading
from pathlib import Path

import numpy as np

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.onnx_files.sessions import Graph, open_graph
from asrloop.wheels import TURN_DETECTOR

SAMPLES = 8 * SAMPLE_RATE
"""What it hears: the last 8 s. Less is filled up with silence in front."""


class TurnDetector:
    """Runs the network. Keeps no state, so one serves any number of streams and threads."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is ``asr_stream/1``. Raises FileNotFoundError where a prepared model lacks it."""
        self._path = directory / TURN_DETECTOR
        if not self._path.is_file():
            raise FileNotFoundError(f"{self._path} is missing; make it with `asrloop models`")
        self._lock = threading.Lock()
        self._graph: Graph | None = None
        """Opened by the first call: streams that do not ask need no memory for it."""

    def __call__(self, samples: Samples) -> float:
        """Return the probability, 0..1, that who speaks in ``samples``, f32 [N], 16 kHz, has said all."""
        heard = np.zeros((1, SAMPLES), np.float32)
        last = samples[-SAMPLES:]
        heard[0, SAMPLES - last.size :] = last
        with self._lock:
            graph = self._graph = self._graph or open_graph(self._path, threads=1, fuse=True)
        return float(graph({"samples": heard})["probability"].item())
