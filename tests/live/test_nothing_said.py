"""Streams in which nobody speaks, with the real detector: nothing is decoded, told or kept, however long they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.live.stream import FRAME, Stream
from asrloop.live.voice import Voice
from asrloop.speech.detector import open_detector

SECONDS = 3600 if os.environ.get("FAULTS_FULL") else 60


def chords(time: Samples) -> Samples:
    """Struck twice a second."""
    tones = [0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (262, 330, 392, 523)]
    struck: Samples = sum(tones, np.zeros_like(time)) * np.exp(-3 * (time % 0.5))
    return struck


SOUNDS = {
    "silence": np.zeros_like,
    "noise": lambda time: np.random.default_rng(0).normal(0, 0.01, time.size),
    "a tone": lambda time: 0.3 * np.sin(2 * np.pi * 440 * time),
    "chords": chords,
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_nothing_is_decoded_and_nothing_kept(model_repository: Path, sound: str) -> None:
    stream = Stream(Voice(open_detector(model_repository / "asr_stream" / "1")), 10.0, 15.0)
    second = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for start in range(SECONDS):
        stream.hear(SOUNDS[sound](start + second).astype(np.float32))
        assert stream.decoding() is None
        assert stream._audio.shape[0] * FRAME < SAMPLE_RATE
    stream.end()
    assert stream.is_finished
    assert stream.events() == []
