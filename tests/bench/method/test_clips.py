"""Clips have their length, start and end in pauses, and come from different places."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from asrloop_bench.method import clips

RATE = 48_000


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """20 s at 48 kHz stereo: half a second of sound, half a second of silence, and so on."""
    time = np.arange(20 * RATE) / RATE
    sound = 0.3 * np.sin(2 * np.pi * 220 * time) * (time % 1.0 < 0.5)
    soundfile.write(tmp_path / "speech.wav", np.stack([sound, sound], axis=1), RATE)
    return tmp_path


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """20 s of noise at 16 kHz, in which every piece can be found again."""
    samples = np.random.default_rng(0).normal(0, 0.1, 20 * 16_000).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", samples, 16_000, subtype="FLOAT")
    return tmp_path


def starts(made: list[clips.Clip], folder: Path) -> list[int]:
    """First sample of each clip within the recording, in ascending order."""
    (recording,) = (clips.read(path).tobytes() for path in clips.speech_files(folder))
    return sorted(recording.index(clip.samples.tobytes()) // 4 for clip in made)


def test_clips_have_the_wanted_length_and_quiet_ends(speech: Path) -> None:
    made = clips.cut(clips.speech_files(speech), 2.5, 3)
    assert len(made) == 3
    for clip in made:
        assert clip.samples.shape == (40_000,)
        assert clip.samples.dtype == np.float32
        edges = np.concatenate([clip.samples[:800], clip.samples[-800:]])
        assert np.abs(edges).max() < 0.02
        assert np.abs(clip.samples).max() > 0.2


def test_clips_do_not_overlap_while_there_is_room(noise: Path) -> None:
    made = clips.cut(clips.speech_files(noise), 3.0, 3)
    assert [clip.name for clip in made] == ["3s-1", "3s-2", "3s-3"]
    assert np.diff(starts(made, noise)).min() >= 48_000


def test_where_clips_must_overlap_none_is_given_twice(noise: Path) -> None:
    made = clips.cut(clips.speech_files(noise), 12.0, 5)
    assert np.diff(starts(made, noise)).min() > 0
    assert len(made) == 5


def test_too_short_speech_is_named(speech: Path) -> None:
    with pytest.raises(clips.ClipError, match="at least 30 s among 1 files"):
        clips.cut(clips.speech_files(speech), 30.0, 1)


def test_a_directory_without_speech_is_named(tmp_path: Path) -> None:
    with pytest.raises(clips.ClipError, match=r"no .wav or .flac"):
        clips.speech_files(tmp_path)


def test_the_mixed_set_has_every_length_as_often_as_the_ratio_says() -> None:
    by_length = [
        [clips.Clip(f"{seconds}s-{number}", np.zeros(seconds * 16_000, np.float32)) for number in (1, 2)]
        for seconds in (1, 3)
    ]
    mixed = clips.mixed(by_length, [4, 1])
    assert sorted(clip.name for clip in mixed) == ["1s-1", "1s-1", "1s-2", "1s-2", "3s-1"]
    assert mixed[2].name == "3s-1", "the rare one is not at an end"
    with pytest.raises(ValueError, match="2 lengths and 1 numbers"):
        clips.mixed(by_length, [4])
