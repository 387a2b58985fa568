"""Real speech cut into utterances."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]


@pytest.fixture(scope="session")
def cuts(assets: Path) -> list[Samples]:
    """200 utterances of 0.3 to 2.5 s, cut anywhere out of real speech."""
    sources = [read_audio(assets / name) for name in ("beckett.wav", "two_cities.wav")]
    generator = np.random.default_rng(7)
    utterances = []
    for _ in range(200):
        source = sources[generator.integers(len(sources))]
        length = int(generator.integers(4_800, 40_000))
        start = int(generator.integers(0, len(source) - length))
        utterances.append(source[start : start + length])
    return utterances


def read_audio(path: Path) -> Samples:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(samples.mean(1), rate, 16_000), np.float32)
