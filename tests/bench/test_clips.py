"""Clips have their length, start and end in pauses, and come from different places."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from asrloop_bench import clips, load_input


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """20 s at 48 kHz stereo: half a second of sound, half a second of silence, and so on."""
    time = np.arange(20 * 48_000) / 48_000
    sound = 0.3 * np.sin(2 * np.pi * 220 * time) * (time % 1.0 < 0.5)
    soundfile.write(tmp_path / "speech.wav", np.stack([sound, sound], axis=1), 48_000)
    return tmp_path


def test_clips_have_the_wanted_length_and_quiet_ends(speech: Path) -> None:
    for clip in clips.cut(clips.speech_files(Path(), speech), 2.5, 3):
        assert clip.samples.shape == (40_000,)
        assert clip.samples.dtype == np.float32
        edges = np.concatenate([clip.samples[:800], clip.samples[-800:]])
        assert np.abs(edges).max() < 0.02
        assert np.abs(clip.samples).max() > 0.2


def test_clips_do_not_overlap_while_there_is_room(speech: Path) -> None:
    made = clips.cut(clips.speech_files(Path(), speech), 3.0, 4)
    assert len({clip.samples.tobytes() for clip in made}) >= 1
    assert [clip.name for clip in made] == ["3s-1", "3s-2", "3s-3", "3s-4"]


def test_too_short_speech_is_named(speech: Path) -> None:
    with pytest.raises(clips.ClipError, match="at least 30 s among 1 files"):
        clips.cut(clips.speech_files(Path(), speech), 30.0, 1)


def test_a_directory_without_speech_is_named(tmp_path: Path) -> None:
    with pytest.raises(clips.ClipError, match=r"no .wav or .flac"):
        clips.speech_files(Path(), tmp_path)


def test_the_mixed_set_has_every_length_as_often_as_the_ratio_says(speech: Path) -> None:
    files = clips.speech_files(Path(), speech)
    by_length = [clips.cut(files, seconds, 2) for seconds in (1.0, 3.0)]
    mixed = load_input.mixed(by_length, [4, 1])
    assert [clip.seconds for clip in mixed].count(1.0) == 4
    assert [clip.seconds for clip in mixed].count(3.0) == 1
    assert {clip.name for clip in mixed} == {"1s-1", "1s-2", "3s-1"}
    assert mixed[2].seconds == 3.0, "the rare one is not at an end"
    with pytest.raises(ValueError, match="2 lengths and 1 numbers"):
        load_input.mixed(by_length, [4])
