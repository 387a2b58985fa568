"""Real speech cut into utterances, and what holds for every family."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from asrloop.families import offline

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


def check_batches(family: Any, utterances: Sequence[Samples], slots: int) -> None:
    """Batches of one family, each on a thread of its own and all at once, give what the first gives alone."""
    encoded = [family.encode(samples) for samples in utterances]
    expected = offline.decode(family, encoded, slots=slots)
    batches = [family, family.open_batch(), family.open_batch()]
    with ThreadPoolExecutor(len(batches)) as threads:
        orders = [encoded, encoded[::-1], encoded]
        found = list(threads.map(lambda one, order: offline.decode(one, order, slots=slots), batches, orders))
    assert found == [expected, expected[::-1], expected]
