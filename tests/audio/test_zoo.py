"""Odd but honest files are decoded to their true end, whatever their container; what is not decoded is named."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop import audio
from asrloop.audio.containers import ACCEPTED
from asrloop.errors import InvalidAudio
from tests.audio import zoo


@pytest.mark.parametrize("name", zoo.ZOO)
def test_an_odd_file_is_decoded_to_its_true_end(name: str, beckett: NDArray[np.float32]) -> None:
    decoded = audio.from_file(zoo.ZOO[name](beckett), max_seconds=30)
    # Each MP3 without its header keeps what encoder and decoder put around the sound, 0.03 to 0.08 s.
    assert decoded.size == pytest.approx(beckett.size, abs=1_600)
    if name == "MP2":  # libsndfile writes none, so that of the zoo is silent
        return
    # Loudness, window by window, is that of the original, so that nothing is missing inside either.
    loud = [np.sqrt(np.square(part[:140_800].reshape(-1, 6_400)).mean(axis=1)) for part in (beckett, decoded)]
    assert np.corrcoef(loud)[0, 1] > 0.9


def test_an_empty_wav_with_chunks_behind_it_is_empty() -> None:
    content = zoo.riff(zoo.FORM, zoo.chunk(b"data", b""), zoo.chunk(b"LIST", b"INFOICRDabcd"))
    with pytest.raises(InvalidAudio, match="0 samples"):
        audio.from_file(content, max_seconds=30)


def test_two_joined_mp3s_are_as_long_as_both(beckett: NDArray[np.float32]) -> None:
    decoded = audio.from_file(zoo.ZOO["MP3s joined"](beckett), max_seconds=30)
    assert decoded.size == pytest.approx(beckett.size, abs=16)


@pytest.mark.parametrize("container", ["VOC", "NIST", "SVX", "IRCAM", "AVR", "HTK", "PAF"])
def test_other_containers_are_refused_by_their_first_bytes(container: str) -> None:
    content = zoo.encoded(np.zeros(16_000, np.float32), 16_000, container, "PCM_16")
    with pytest.raises(InvalidAudio, match=re.escape(f"send {ACCEPTED}")):
        audio.from_file(content, max_seconds=30)


@pytest.mark.parametrize(
    ("head", "seen", "suffix"),
    [
        (b"ADIF\0", "AAC without frames (ADIF)", "aac"),
        (b"\x0b\x77\x6d\x9f", "AC-3", "ac3"),
        (zoo.id3() + b"\x0b\x77\x6d\x9f", "AC-3", "ac3"),
        (b"wvpk\x20", "WavPack", "wv"),
        (b"MAC \x96", "Monkey's Audio", "ape"),
    ],
)  # fmt: skip
def test_a_container_that_is_not_decoded_is_named(head: bytes, seen: str, suffix: str) -> None:
    line = f"AUDIO is {seen}, which is not decoded here: send {ACCEPTED}, such as the WAV that this makes: ffmpeg -i in.{suffix} "
    with pytest.raises(InvalidAudio, match=re.escape(line)):
        audio.from_file(head.ljust(30_000, b"\0"), max_seconds=30)
