"""What has no speech, by the level and by a scripted detector, which is asked about little."""

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop.speech.detector import FRAME, Heard
from asrloop.speech.silence import STEP, quiet_steps

RATE = 16_000


class Listener:
    """Hears speech in frames that are louder than ``least``."""

    def __init__(self, least: float) -> None:
        self.least = least
        self.frames = 0

    def __call__(self, samples: NDArray[np.float32], before: Heard) -> tuple[NDArray[np.float32], Heard]:
        frames = samples.reshape(-1, FRAME)
        self.frames += len(frames)
        return (np.abs(frames).max(axis=1) >= self.least).astype(np.float32), before


def sound(*parts: tuple[float, float]) -> NDArray[np.float32]:
    """Noise of so many seconds and of such an amplitude each."""
    random = np.random.default_rng(1)
    noise = [amplitude * random.uniform(-1, 1, int(seconds * RATE)) for seconds, amplitude in parts]
    return np.concatenate(noise).astype(np.float32)


def stretches(quiet: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Begin and end of each quiet stretch, in seconds."""
    edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
    return [(begin * STEP / RATE, end * STEP / RATE) for begin, end in edges.tolist()]


def test_a_pause_is_found_by_its_level_alone() -> None:
    listener = Listener(2.0)
    ((begin, end),) = stretches(quiet_steps(sound((1, 0.5), (0.5, 0.001), (1, 0.5)), listener))
    assert (begin, end) == pytest.approx((1.0, 1.5), abs=0.02)
    assert listener.frames == 0


def test_breath_before_speech_is_no_speech_where_the_detector_hears_none() -> None:
    breath = sound((0.3, 0.001), (0.4, 0.05), (2, 0.5))
    listener = Listener(0.25)
    ((begin, end),) = stretches(quiet_steps(breath, listener))
    assert (begin, end) == pytest.approx((0.0, 0.7), abs=0.05)
    assert 0 < listener.frames < 30, "it is not asked about what is loud"
    ((_, end),) = stretches(quiet_steps(breath, Listener(0.0)))
    assert end == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("samples", [0, 1, STEP, FRAME, FRAME + 1])
def test_nothing_is_too_short(samples: int) -> None:
    quiet = quiet_steps(np.zeros(samples, np.float32), Listener(0.5))
    assert quiet.shape == (samples // STEP,)
