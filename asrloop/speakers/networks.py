"""pyannote's community-1 networks (CC BY 4.0): who is active in a window of 10 s, and a vector that is alike for one voice."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.onnx_files.sessions import Graph, open_graph
from asrloop.recognizer import command_for
from asrloop.speakers import missing_networks
from asrloop.speakers.clusters import unit
from asrloop.wheels import SPEAKER_EMBEDDING, SPEAKER_SEGMENTATION

SAMPLES = 10 * SAMPLE_RATE
"""Samples of a window."""

FRAMES = 589
FRAME = 270 / SAMPLE_RATE
"""Seconds from one frame of a window to the next."""

FIRST = 991 / 2 / SAMPLE_RATE - FRAME / 2
"""Seconds at which the first frame begins: half of what it hears, less half a step."""

VOICES = 3
"""Voices that are told apart in one window, at most two of them at once."""

SIZE = 256
"""Components of an embedding."""


TOGETHER = 16
"""Pieces of one length that are embedded at once: a tenth faster than one by one. Each takes 0.3 MB for a second."""


class Networks(Protocol):
    """The two networks, so that a test can stand in for them."""

    def activity(self, windows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which voices are active, bool [B, 589, 3], in ``windows`` f32 [B, 160000]. Voices have no order."""

    def embeddings(self, pieces: Sequence[Samples]) -> NDArray[np.float32]:
        """Return a unit vector, f32 [len(pieces), 256], for the one voice in each of ``pieces`` f32 [N], 16 kHz, N >= 400."""


class OnnxNetworks:
    """Runs the networks in one thread of the caller. Keeps no state, so one serves any number of recordings and threads."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is that of a prepared model. The graphs are opened by the first call, which raises FileNotFoundError where
        the model lacks them, and ValueError where they are damaged: a server that nobody asks for speakers needs neither the files
        nor memory for them."""
        self._directory = directory
        self._lock = threading.Lock()
        self._graphs: dict[str, Graph] = {}

    def check(self) -> None:
        """Raise FileNotFoundError, which says how to make them, where the networks are missing. Callers read it: no folders."""
        if absent := missing_networks(self._directory):
            raise FileNotFoundError(f"{absent[0]} is missing: speakers cannot be told apart; {self._fix}")

    @property
    def _fix(self) -> str:
        return f"make it with `{command_for(self._directory.parent.name)}`"

    def activity(self, windows: NDArray[np.float32]) -> NDArray[np.bool_]:
        found = self._graph(SPEAKER_SEGMENTATION)({"waveforms": windows[:, None]})["segmentation"]
        return np.asarray(found > 0.5)

    def embeddings(self, pieces: Sequence[Samples]) -> NDArray[np.float32]:
        vectors = np.zeros((len(pieces), SIZE), np.float32)
        for size in {piece.size for piece in pieces}:
            alike = [number for number, piece in enumerate(pieces) if piece.size == size]
            for first in range(0, len(alike), TOGETHER):
                numbers = alike[first : first + TOGETHER]
                samples = np.stack([pieces[number] for number in numbers])
                vectors[numbers] = self._graph(SPEAKER_EMBEDDING)({"samples": samples})["embedding"]
        return unit(vectors)

    def _graph(self, name: str) -> Graph:
        with self._lock:
            if name not in self._graphs:
                self.check()
                try:
                    self._graphs[name] = open_graph(self._directory / name, threads=1, fuse=True)
                except Exception as error:  # ONNX Runtime has a class for each way to be damaged, and names folders
                    raise ValueError(f"{name} cannot be read as a network: delete it, and {self._fix}") from error
            return self._graphs[name]


def padded(samples: Samples) -> NDArray[np.float32]:
    """Return a window f32 [160000] that begins with ``samples``; silence fills it up."""
    window = np.zeros(SAMPLES, np.float32)
    window[: samples.size] = samples
    return window
