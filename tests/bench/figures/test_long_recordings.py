"""The joined recording is what its description says, and coverage counts what it says."""

import numpy as np
import pytest
from asrloop_bench.figures.long_recordings import Joined, covered, joined
from asrloop_client import Segment


def test_clips_lie_where_the_description_says() -> None:
    parts = [np.full(int(seconds * 16_000), 0.5, np.float32) for seconds in (2, 3, 1)]
    made = joined(parts, (1.0, 0.5))
    assert made.speech == [(0.0, 2.0), (3.0, 6.0), (6.5, 7.5)]
    assert made.seconds == 8.5
    for begin, end in made.speech:
        assert (made.samples[int(begin * 16_000) : int(end * 16_000)] == 0.5).all()
    assert np.abs(made.samples[2 * 16_000 : 3 * 16_000]).max() < 0.01


def test_coverage_of_speech_and_of_long_pauses() -> None:
    made = Joined(np.zeros(10 * 16_000, np.float32), [(0.0, 2.0), (4.0, 6.0), (6.5, 7.5)])
    speech, pauses = covered(made, [Segment("a", 0.0, 3.0), Segment("b", 5.0, 7.5)])
    assert speech == pytest.approx((2 + 1 + 1) / 5, abs=0.01)
    assert pauses == pytest.approx(1 / 2, abs=0.01)
