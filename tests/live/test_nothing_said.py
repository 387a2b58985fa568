"""Streams in which nobody speaks, with the real detector: nothing is decoded, told or kept, however long they are."""

from pathlib import Path

import numpy as np
import pytest

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.live.segmenter import FRAME, Segmenter
from asrloop.live.voice import Voice
from asrloop.speech.detector import open_detector

MINUTE, HOUR = 60, 3600
"""Seconds."""


def chords(time: Samples) -> Samples:
    """Struck twice a second."""
    tones = [0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (262, 330, 392, 523)]
    struck: Samples = sum(tones, np.zeros_like(time)) * np.exp(-3 * (time % 0.5))
    return struck


def band(time: Samples) -> Samples:
    """Chords in turn, a bass, a melody with vibrato, a drum."""
    chord = ((220, 262, 330), (175, 220, 262), (262, 330, 392), (196, 247, 294))[int(time[0] // 2) % 4]
    melody = 2 * chord[int(2 * time[0]) % 3]
    vibrato = 3 * np.sin(2 * np.pi * 5.5 * time)
    sound: Samples = 0.1 * np.sin(np.pi * chord[0] * time)
    sound += 0.2 * np.exp(-30 * (time % 0.5)) * np.random.default_rng(0).normal(0, 1, time.size)
    for harmonic in range(1, 6):
        sound += 0.06 / harmonic * np.sin(harmonic * (2 * np.pi * melody * time + vibrato)) * np.sin(np.pi * (time % 1))
        for hertz in chord:
            sound += 0.04 / harmonic * np.sin(2 * np.pi * hertz * harmonic * time) * np.exp(-2 * (time % 0.5))
    return sound


SOUNDS = {
    "silence": np.zeros_like,
    "noise": lambda time: np.random.default_rng(0).normal(0, 0.01, time.size),
    "a tone": lambda time: 0.3 * np.sin(2 * np.pi * 440 * time),
    "hum": lambda time: 0.05 * np.sign(np.sin(2 * np.pi * 50 * time)),
    "chords": chords,
    "a band": band,
}


@pytest.mark.parametrize("seconds", [MINUTE, pytest.param(HOUR, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sound", SOUNDS)
def test_nothing_is_decoded_and_nothing_kept(model_repository: Path, sound: str, seconds: int) -> None:
    stream = Segmenter(Voice(open_detector(model_repository / "asr_stream" / "1")), 10.0, 15.0)
    second = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for start in range(seconds):
        stream.hear(SOUNDS[sound](start + second).astype(np.float32))
        assert stream.decoding() is None
        assert stream._audio.shape[0] * FRAME < SAMPLE_RATE
    stream.end()
    assert stream.is_finished
    assert stream.events() == []
