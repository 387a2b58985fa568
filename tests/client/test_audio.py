"""What the client makes of arrays, paths and bytes."""

import array
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from asrloop_client import audio
from asrloop_client.duration import seconds_of
from asrloop_client.errors import InvalidAudio

from tests.audio import zoo

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
    [
        (np.zeros((2, 3)), r"shape \(2, 3\): give one dimension.*a file for diarize=.channels.$"),
        (np.zeros(3, np.int64), "int64: give floats"),
    ],
)
def test_arrays_that_are_no_mono_pcm_are_refused(samples: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidAudio, match=message):
        audio.load(samples, 16000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_file_goes_as_its_bytes_and_its_length_is_known(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, np.tile(TONE, 20), 16000)
    loaded = audio.load(path, 16000)
    assert loaded == audio.EncodedFile(path.read_bytes())
    assert loaded.duration == pytest.approx(2, abs=0.1)


def test_the_length_of_a_wav_file_needs_no_soundfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    loaded = audio.load(write(tmp_path / "a.wav", TONE, 16000, subtype="FLOAT"), 16000)
    assert loaded.duration == 0.1


def test_an_unknown_length_is_none_and_no_number() -> None:
    content = zoo.flac_without_total(np.tile(TONE, 20))
    assert audio.EncodedFile(content).duration is None
    assert seconds_of(io.BytesIO(content)) is None
    assert seconds_of(io.BytesIO(zoo.encoded(TONE, 16000, "WAV", "PCM_16"))) == 0.1


def test_a_wrong_header_is_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    aiff = zoo.ZOO["AIFF"](np.tile(TONE, 20))
    for at in range(12, 60, 2):
        audio.EncodedFile(zoo.patched(aiff, at, b"\x80\0\0\0")).duration  # noqa: B018 - looking at it is what must be silent
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        lambda: memoryview(b"RIFF"),
        lambda: io.BytesIO(b"RIFF"),
        lambda: bytearray(b"RIFF"),
    ],
)
def test_whatever_holds_a_files_bytes_is_a_file(given: Callable[[], audio.Audio]) -> None:
    assert audio.load(given(), 16000) == audio.EncodedFile(b"RIFF")


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"RIFF")))
    assert audio.load("-", 16000) == audio.EncodedFile(b"RIFF")


def test_lists_and_whole_float_rates_work() -> None:
    loaded = audio.load([0.0, 0.5], 16000.0)
    assert isinstance(loaded, audio.Pcm)
    assert (loaded.samples.tolist(), loaded.sample_rate) == ([0.0, 0.5], 16000)
    loaded = audio.load(array.array("h", [16384]), 8000)
    assert isinstance(loaded, audio.Pcm)
    assert loaded.samples.tolist() == [0.5]


@pytest.mark.parametrize(
    ("given", "rate", "message"),
    [
        ({}, 16000, "type dict: give a path"),
        (None, 16000, "type NoneType: give a path"),
        (io.StringIO("x"), 16000, "binary mode"),
        ([1, 2], 16000, "int64: give floats"),
        ([[0.1], [0.1, 0.2]], 16000, "no array"),
        ("missing.wav", 16000, "missing.wav cannot be read"),
        ("a\0b", 16000, "cannot be read"),
        (TONE, 16000.5, "sample_rate is 16000.5"),
        (TONE, "16000", "sample_rate is '16000'"),
        (TONE, float("nan"), "sample_rate is nan"),
        (TONE, 2**70, "whole number"),
        (TONE, None, "sample_rate is None"),
        (TONE, True, "sample_rate is True"),
        (TONE, 7_999, "sample_rate is 7999: give a whole number in 8000..48000 Hz"),
        (TONE, 48_001, "in 8000..48000 Hz"),
    ],
)
def test_what_does_not_work_is_an_asr_error_that_says_what_does(given: Any, rate: Any, message: str) -> None:
    with pytest.raises(InvalidAudio, match=message):
        audio.load(given, rate)


def test_a_file_that_fits_into_no_request_is_told_how_to_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "eight hours.wav"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # takes no room on the disk
    with pytest.raises(InvalidAudio, match="the file has 5368709120 bytes: .* Send it as FLAC, OGG or MP3"):
        audio.load(path, 16_000)
