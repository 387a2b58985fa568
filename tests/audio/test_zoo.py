"""Odd but honest files are decoded to their true end; a file that really ends early is refused, whatever its container."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop import audio
from asrloop.errors import InvalidAudio
from tests.audio import zoo


@pytest.mark.parametrize("name", zoo.ZOO)
def test_an_odd_file_is_decoded_to_its_true_end(name: str, beckett: NDArray[np.float32]) -> None:
    decoded = audio.from_file(zoo.ZOO[name](beckett), max_seconds=30)
    # Each MP3 without its header keeps what encoder and decoder put around the sound, 0.03 to 0.08 s.
    assert decoded.size == pytest.approx(beckett.size, abs=1_600)
    # Loudness, window by window, is that of the original, so that nothing is missing inside either.
    loud = [np.sqrt(np.square(part[:140_800].reshape(-1, 6_400)).mean(axis=1)) for part in (beckett, decoded)]
    assert np.corrcoef(loud)[0, 1] > 0.9


CUT = (
    "MP3, VBR", "MP3, VBR, no Xing frame", "MP3, CBR, no Xing frame", "MP3s joined", "FLAC of unknown length",
    "WAV, LIST behind data", "WAV extensible, 24 bit", "RF64", "Wave64", "OGG Vorbis", "OGG Opus",
    "OGG Vorbis, a chain of two",
)  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_a_file_cut_in_the_middle_is_refused_with_both_numbers(name: str, beckett: NDArray[np.float32]) -> None:
    content = zoo.ZOO[name](beckett)
    for share in (0.31, 0.5, 0.77, 0.95):
        with pytest.raises(InvalidAudio, match=r"AUDIO is cut short: .*\d+.*, .*\d+.*; send the whole file"):
            audio.from_file(content[: int(len(content) * share)], max_seconds=30)


def test_an_empty_wav_with_chunks_behind_it_is_empty() -> None:
    content = zoo.riff(zoo.FORM, zoo.chunk(b"data", b""), zoo.chunk(b"LIST", b"INFOICRDabcd"))
    with pytest.raises(InvalidAudio, match="0 samples"):
        audio.from_file(content, max_seconds=30)


def test_two_gigabytes_in_the_header_and_one_second_inside_is_cut_short() -> None:
    with pytest.raises(InvalidAudio, match="cut short: its WAV header says 2000000000 bytes of samples, 32000 follow"):
        audio.from_file(zoo.piped_wav(np.zeros(16_000, np.float32), 2_000_000_000), max_seconds=30)


@pytest.mark.parametrize("container", ["AIFF", "AU", "CAF", "VOC", "NIST", "SVX", "IRCAM", "AVR", "HTK", "PAF"])
def test_other_containers_are_refused_by_their_first_bytes(container: str) -> None:
    content = zoo.encoded(np.zeros(16_000, np.float32), 16_000, container, "PCM_16")
    with pytest.raises(InvalidAudio, match=re.escape("send WAV, FLAC, OGG or MP3")):
        audio.from_file(content, max_seconds=30)
