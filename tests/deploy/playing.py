"""A player that speaks at the speed of speech."""

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def spoken(samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Chunks of 100 ms, f32 [1600], each at its time."""
    started = time.monotonic()
    for start in range(0, samples.size, 1600):
        time.sleep(max(started + start / 16_000 - time.monotonic(), 0.0))
        yield samples[start : start + 1600]
