"""Audio in: odd inputs end in samples or in an AudioError, never in anything else."""

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asrloop import audio
from asrloop.audio import AudioError


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
def test_any_bytes_end_in_samples_or_in_an_audio_error(content: bytes) -> None:
    try:
        samples = audio.from_file(content, max_seconds=1.0)
    except AudioError:
        pass
    else:
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert 1 <= samples.size <= 16_000


@given(cut=st.integers(1, len(wav()) - 1))
def test_a_wav_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(AudioError):
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
    soundfile.write(buffer, np.array([[0.5, -0.5]] * 100), 16_000, format="WAV", subtype="FLOAT")
    assert not audio.from_file(buffer.getvalue(), max_seconds=1.0).any()


@pytest.mark.parametrize("rate", [True, 7, 7_999, 48_001, 16_000.5, "fast", None, [], "-8000"])
def test_odd_rates_are_refused(rate: object) -> None:
    with pytest.raises(AudioError, match=r"sample_rate is .* between 8000 and 48000"):
        audio.from_pcm(np.zeros(10, np.float32), None, rate, max_seconds=1.0)


@pytest.mark.parametrize("rate", [16_000, "16000", 16_000.0])
def test_rates_may_come_as_text_or_float(rate: object) -> None:
    assert audio.from_pcm(np.zeros(10, np.float32), 5, rate, max_seconds=1.0).size == 5


def test_the_limit_is_exact() -> None:
    assert audio.from_pcm(np.zeros(16_000, np.float32), None, 16_000, max_seconds=1.0).size == 16_000
    with pytest.raises(AudioError, match=r"1.00 s long: the limit is 1 s"):
        audio.from_pcm(np.zeros(16_001, np.float32), None, 16_000, max_seconds=1.0)
