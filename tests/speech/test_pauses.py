"""Where short audio is parted, and where its speech begins and ends; a scripted detector says what is speech."""

import numpy as np
import pytest

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import Heard
from asrloop.speech.pauses import Spoken, spoken
from asrloop.speech.windows import Cutter
from tests.speech.test_windows import LONGEST, TARGET, covers, recording, scripted, times


class CountingDetector:
    """Counts the samples that it listens to."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, samples: Samples, heard: Heard) -> tuple[Samples, Heard]:
        self.heard += samples.size
        return scripted(samples, heard)


@pytest.fixture
def detector() -> CountingDetector:
    return CountingDetector()


def find(samples: Samples, detector: CountingDetector) -> Spoken:
    return spoken(samples, lambda: Cutter(detector, TARGET, LONGEST))


def test_a_long_pause_parts_short_audio(detector: CountingDetector) -> None:
    found = find(recording(("speech", 2), ("pause", 4), ("speech", 1.5)), detector)
    first, second = times(found.parts)
    assert covers(first, 0, 2)
    assert covers(second, 6, 7.5)
    assert (found.start, found.end) == (first[0], second[1])


@pytest.mark.parametrize("place", ["before", "behind"])
def test_long_silence_at_an_edge_is_left_out(place: str, detector: CountingDetector) -> None:
    silent, said = ("pause", 8), ("speech", 2)
    found = find(recording(*((silent, said) if place == "before" else (said, silent))), detector)
    (part,) = times(found.parts)
    assert covers(part, 8, 10) if place == "before" else covers(part, 0, 2)


def test_audio_without_a_long_pause_stays_whole_and_the_detector_does_not_listen(detector: CountingDetector) -> None:
    found = find(recording(("pause", 0.8), ("speech", 2), ("pause", 0.9), ("speech", 2), ("pause", 0.8)), detector)
    assert not found.parts
    assert not detector.heard
    assert covers((found.start, found.end), 0.8, 5.7)


def test_what_is_quiet_for_long_and_yet_speech_stays_whole(detector: CountingDetector) -> None:
    quiet = recording(("speech", 2)) * np.float32(0.02)
    found = find(np.concatenate([recording(("speech", 2)), quiet, recording(("speech", 2))]), detector)
    assert detector.heard
    assert not found.parts


def test_a_click_does_not_hide_a_pause(detector: CountingDetector) -> None:
    samples = recording(("speech", 2), ("pause", 3), ("speech", 2)) * np.float32(0.3)
    samples[500:700] = 1
    assert len(find(samples, detector).parts) == 2


def test_a_constant_offset_does_not_hide_a_pause(detector: CountingDetector) -> None:
    samples = recording(("speech", 2), ("pause", 3), ("speech", 2)) * np.float32(0.3) + np.float32(0.05)
    find(samples, detector)
    assert detector.heard


@pytest.mark.parametrize("size", [1, 511, 512, 2048, 40_000])
def test_silence_of_any_length_stays_whole(size: int, detector: CountingDetector) -> None:
    assert find(np.zeros(size, np.float32), detector) == Spoken(0.0, size / SAMPLE_RATE, [])


def test_quiet_speech_before_a_pause_keeps_its_segments_start(detector: CountingDetector) -> None:
    """Speech 30 dB louder behind the pause does not make it faint."""
    quiet = recording(("pause", 0.5), ("speech", 1)) * np.float32(0.03)
    found = find(np.concatenate([quiet, recording(("pause", 1.6), ("speech", 2))]), detector)
    assert found.start <= 0.5
