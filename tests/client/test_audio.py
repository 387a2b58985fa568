"""What the client makes of arrays, paths and bytes."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from asrloop_client import audio
from asrloop_client.errors import InvalidAudio

TONE = (0.5 * np.sin(np.arange(1600) / 10)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, **options: str) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def test_float32_samples_are_not_copied() -> None:
    loaded = audio.load(TONE, 8000)
    assert isinstance(loaded, audio.Pcm)
    assert loaded.samples is TONE
    assert loaded.sample_rate == 8000


def test_int16_samples_are_scaled_to_one() -> None:
    loaded = audio.load(np.array([-32768, 0, 16384], np.int16), 16000)
    assert isinstance(loaded, audio.Pcm)
    assert loaded.samples.tolist() == [-1, 0, 0.5]


@pytest.mark.parametrize(
    ("samples", "message"),
    [(np.zeros((2, 3)), r"shape \(2, 3\): give one dimension"), (np.zeros(3, np.int64), "int64: give floats")],
)
def test_arrays_that_are_no_mono_pcm_are_refused(samples: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidAudio, match=message):
        audio.load(samples, 16000)


def test_a_file_says_its_own_rate_and_is_mixed_to_mono(tmp_path: Path) -> None:
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    loaded = audio.load(write(tmp_path / "a.flac", stereo, 44100), 16000)
    assert isinstance(loaded, audio.Pcm)
    assert loaded.sample_rate == 44100
    np.testing.assert_allclose(loaded.samples, TONE / 2, atol=1e-4)


def test_a_rate_that_samples_may_not_have_goes_as_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", TONE, 96000)
    assert audio.load(path, 16000) == audio.EncodedFile(path.read_bytes())


def test_bytes_go_as_they_are() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, TONE, 16000, format="WAV")
    assert audio.load(bytearray(buffer.getvalue()), 16000) == audio.EncodedFile(buffer.getvalue())


def test_what_this_libsndfile_does_not_know_is_left_to_the_server(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"no audio at all")
    assert audio.load(path, 16000) == audio.EncodedFile(b"no audio at all")


def test_without_soundfile_files_go_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", TONE, 16000)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert audio.load(str(path), 16000) == audio.EncodedFile(path.read_bytes())


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        audio.load(tmp_path / "none.wav", 16000)
