"""The detector as we write it hears what the published one hears."""

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop import wheels
from asrloop.speech import graph
from asrloop.speech.detector import FRAME, NOTHING, SpeechDetector
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeechDetector, SpeechDetector]:
    published, ours = wheels.speech_detector(ROOT / ".cache"), tmp_path_factory.mktemp("detector") / "ours.onnx"
    graph.write(published, ours)
    return SpeechDetector(published), SpeechDetector(ours)


@pytest.mark.parametrize("frames", [1, 3, 50])
def test_probabilities_and_states_are_those_of_the_published_network(
    both: tuple[SpeechDetector, SpeechDetector], beckett: NDArray[np.float32], frames: int
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 40 * FRAME).astype(np.float32)
    audio = np.concatenate([0 * noise, beckett, noise])
    theirs = ours = NOTHING
    heard = []
    for begin in range(0, 320 * FRAME, frames * FRAME):
        piece = audio[begin : begin + frames * FRAME]
        expected, theirs = both[0](piece, theirs)
        found, ours = both[1](piece, ours)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)
        heard += list(found)
    assert min(heard) < 0.1 < 0.9 < max(heard)
