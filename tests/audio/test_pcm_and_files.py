"""Audio in: odd inputs end in samples or in InvalidAudio, never in anything else."""

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from asrloop import audio
from asrloop.errors import InvalidAudio, TooLong


def wav(samples: int = 1000, rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.linspace(-0.5, 0.5, samples), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=60).map(lambda tail: wav()[:44] + tail),
        st.binary().map(lambda b: b"fLaC" + b),
    )
)
def test_any_bytes_end_in_samples_or_are_refused(content: bytes) -> None:
    try:
        samples = audio.from_file(content, max_seconds=1.0)
    except InvalidAudio:
        pass
    else:
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert 1 <= samples.size <= 16_000


@given(cut=st.integers(1, len(wav()) - 1))
def test_a_wav_cut_anywhere_is_decoded_up_to_there(cut: int) -> None:
    samples = max(0, cut - 44) // 2
    if samples:
        assert audio.from_file(wav()[:cut], max_seconds=1.0).size == samples
    else:
        with pytest.raises(InvalidAudio):
            audio.from_file(wav()[:cut], max_seconds=1.0)


def test_a_wav_written_to_a_pipe_has_no_length_and_is_read() -> None:
    content = bytearray(wav(1000))
    struct.pack_into("<I", content, 40, 0xFFFFFFFF)
    assert audio.from_file(bytes(content), max_seconds=1.0).size == 1000


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 96_000])
def test_files_are_resampled(rate: int) -> None:
    assert audio.from_file(wav(rate, rate), max_seconds=2.0).size == pytest.approx(16_000, abs=2)


def test_channels_are_mixed() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.array([[0.5, 0.25]] * 100), 16_000, format="WAV", subtype="FLOAT")
    assert np.array_equal(audio.from_file(buffer.getvalue(), max_seconds=1.0), np.full(100, 0.375, np.float32))


@pytest.mark.parametrize("rate", [True, 7, 7_999, 48_001, 16_000.5, "fast", None, [], "-8000"])
def test_odd_rates_are_refused(rate: object) -> None:
    with pytest.raises(InvalidAudio, match=r"sample_rate is .* between 8000 and 48000"):
        audio.checked_rate(rate)


@pytest.mark.parametrize("rate", [16_000, "16000", 16_000.0])
def test_rates_may_come_as_text_or_float(rate: object) -> None:
    assert audio.checked_rate(rate) == 16_000


def pcm(wav: NDArray[np.float32], lengths: list[int] | None = None) -> list[NDArray[np.float32]]:
    return audio.from_pcm(wav, None if lengths is None else np.array(lengths)[:, None], 16_000, max_seconds=1.0)


def test_the_limit_is_exact() -> None:
    assert pcm(np.zeros((1, 16_000), np.float32))[0].size == 16_000
    with pytest.raises(TooLong, match=r"\[too_long\] audio is 1.00 s long: the limit is 1 s"):
        pcm(np.zeros((1, 16_001), np.float32))


def test_only_the_valid_part_of_a_row_is_copied_and_checked() -> None:
    wav = np.full((2, 100), np.nan, np.float32)
    wav[0, :10], wav[1, :20] = 0.25, 0.5
    rows = pcm(wav, [10, 20])
    wav[:] = 0
    assert [(row.size, row.max()) for row in rows] == [(10, 0.25), (20, 0.5)]


@pytest.mark.parametrize(
    ("wav", "lengths", "message"),
    [
        (np.zeros(10), None, r"WAV has shape \[10\]: send rows of samples, shape \[B, N\]"),
        (np.zeros((1, 0)), None, "WAV has 0 samples: send at least 1"),
        (np.zeros((2, 10)), [5], "WAV has 2 rows, WAV_LENS 1: send one length a row"),
        (np.zeros((1, 10)), [0], "WAV_LENS is 0: it must be between 1 and the 10 samples"),
        (np.zeros((1, 10)), [-5], "WAV_LENS is -5"),
        (np.zeros((1, 10)), [11], "WAV_LENS is 11"),
        (np.full((1, 10), np.inf), None, "WAV holds inf at sample 0: all samples must be finite"),
        (np.array([[0, 1, np.nan]]), None, "WAV holds nan at sample 2: all samples must be finite"),
        (np.array([[0, 1, -np.inf, 3]]), [3], "WAV holds -inf at sample 2: all samples must be finite"),
        (
            np.array([[0, 3.4e38, -3.4e38]]),
            None,
            r"WAV holds 3.4e\+38 at sample 1: the limit is 1000; send samples in -1..1",
        ),
        (
            np.array([[-1001, 0]]),
            None,
            "WAV holds -1001 at sample 0: the limit is 1000; .*16-bit ones divided by 32768",
        ),
    ],
)
def test_odd_pcm_is_refused(wav: NDArray[np.float64], lengths: list[int] | None, message: str) -> None:
    with pytest.raises(InvalidAudio, match=rf"\[invalid_audio\] {message}"):
        pcm(wav.astype(np.float32), lengths)


def test_a_recording_far_over_full_scale_is_taken() -> None:
    assert pcm(np.array([[1000, -1000]], np.float32))[0].tolist() == [1000, -1000]


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_file_of_numbers_that_are_no_audio_is_refused(rate: int) -> None:
    samples = np.zeros((rate * 5, 2), np.float32)
    samples[rate * 9 // 2] = 3.4e38, -3.4e38  # their mean is 0
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
    with pytest.raises(InvalidAudio, match=rf"AUDIO holds 3.4e\+38 at sample {rate * 9}: the limit is 1000"):
        audio.from_file(buffer.getvalue(), max_seconds=10)


def test_16_bit_samples_become_floats() -> None:
    samples = audio.from_int16(np.array([[-32_768, 0, 16_384]], np.int16))
    assert samples.dtype == np.float32
    assert samples.tolist() == [[-1, 0, 0.5]]


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 48_000])
def test_resampling_does_not_make_the_longest_audio_too_long(rate: int) -> None:
    assert audio.resampled(np.zeros(30 * rate, np.float32), rate).size == 30 * 16_000
    assert audio.resampled(np.zeros(1, np.float32), rate).size >= 1
