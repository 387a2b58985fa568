"""Joined conversations are what their truth says, and the error rate is that of pyannote.metrics."""

from itertools import pairwise

import numpy as np
import pytest
from asrloop_bench.figures.speakers import PAUSE, TURN, Conversation, Found, conversation, error_rate, sounding

from asrloop.audio import SAMPLE_RATE
from asrloop.engine.attribution import SpeakerTurn

BEAT = np.concatenate([np.full(8000, 0.1), np.full(1600, 1e-4)]).astype(np.float32)
"""Sound and a pause: what has none is no speech."""

PEOPLE = {name: [np.tile(level * BEAT, 15)] for name, level in (("a", 1), ("b", -1), ("c", 2))}


def test_a_conversation_has_turns_and_pauses_of_the_lengths_it_says() -> None:
    made = conversation(PEOPLE, 3, 0, seconds=60.0)
    assert {name for _, _, name in made.truth} == {"a", "b", "c"}
    for one, other in pairwise(made.truth):
        assert one[2] != other[2], "nobody follows themselves"
        assert PAUSE[0] - 0.01 <= other[0] - one[1] <= PAUSE[1] + 0.01
    for start, end, _ in made.truth:
        assert TURN[0] / 2 <= end - start <= TURN[1]
        heard = made.samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
        assert np.sqrt((heard**2).mean()) == pytest.approx(0.05, rel=0.05)
    assert conversation(PEOPLE, 3, 0, seconds=60.0).truth == made.truth
    assert conversation(PEOPLE, 3, 1, seconds=60.0).truth != made.truth


def test_what_is_quiet_at_the_ends_is_cut_off() -> None:
    samples = np.concatenate([np.zeros(8000), np.full(16000, 0.1), np.zeros(4000)]).astype(np.float32)
    assert sounding(samples).size == pytest.approx(16000, abs=320)
    assert sounding(np.zeros(1600, np.float32)).size == 0


def test_the_error_rate_counts_what_goes_to_the_wrong_speaker() -> None:
    pytest.importorskip("pyannote.metrics")
    one = Conversation(2, np.zeros(20 * SAMPLE_RATE, np.float32), [(0.0, 10.0, "a"), (10.0, 20.0, "b")])
    right = Found(one, [SpeakerTurn(0, 10, 0), SpeakerTurn(10, 20, 1)])
    wrong = Found(one, [SpeakerTurn(0, 15, 0), SpeakerTurn(15, 20, 1)])
    assert error_rate([right])["error"] == 0
    assert error_rate([wrong], collar=0.0)["confusion"] == pytest.approx(0.25)
    assert error_rate([right, wrong], collar=0.0)["error"] == pytest.approx(0.125)
