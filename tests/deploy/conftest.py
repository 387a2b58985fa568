"""Speech with a known text, and a player that speaks it at its own speed."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.faults.harness import Speech


@pytest.fixture(scope="session")
def speech(beckett: NDArray[np.float32], beckett_path: Path) -> Speech:
    return Speech(beckett, beckett_path.read_bytes())


def spoken(samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Chunks of 100 ms, f32 [1600], each at its time."""
    started = time.monotonic()
    for start in range(0, samples.size, 1600):
        time.sleep(max(started + start / 16_000 - time.monotonic(), 0.0))
        yield samples[start : start + 1600]
