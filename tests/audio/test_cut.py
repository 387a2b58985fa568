"""A file with a torn end or start is decoded as far as it goes, and says what is missing by its header."""

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop import audio
from asrloop.audio.decoding import FileDecoder, FileHead
from asrloop.audio.files import Length
from asrloop.audio.relay import incoming
from asrloop.config import AudioSettings
from asrloop.errors import InvalidAudio, RequestError
from tests.audio import zoo
from tests.conftest import eventually

Samples = NDArray[np.float32]


def decoded(content: bytes) -> tuple[Samples, float]:
    """The samples, and the seconds that are missing."""
    length = Length()
    return np.concatenate([*audio.blocks(content, 3600, length=length)]), length.missing


@pytest.mark.parametrize("more", [1, 8, 16, 44, 192_000])
def test_a_wav_whose_header_says_too_much_is_decoded(more: int, beckett: Samples) -> None:
    samples, missing = decoded(zoo.piped_wav(beckett, 2 * beckett.size + more))
    assert samples.size == beckett.size
    assert missing == (pytest.approx(6, abs=0.01) if more == 192_000 else 0)


FRAMED = (
    "MP3, VBR", "MP3, VBR, no Xing frame", "MP3, CBR, stereo 48 kHz", "MP3s joined", "FLAC", "FLAC of unknown length",
    "OGG Vorbis", "OGG Opus", "OGG Vorbis, a chain of two", "OGG FLAC",
)  # fmt: skip


@pytest.mark.parametrize("name", FRAMED)
def test_a_last_frame_that_is_torn_is_no_loss(name: str, beckett: Samples) -> None:
    content = zoo.ZOO[name](beckett)
    for cut in (1, 20, 100):
        samples, missing = decoded(content[:-cut])
        assert missing == 0
        assert beckett.size - 20_000 <= samples.size <= beckett.size + 1_600


CLAIMING = (
    "MP3, VBR", "MP3, CBR, stereo 48 kHz", "FLAC", "OGG FLAC", "WAV, LIST, fact before", "WAV extensible, 24 bit",
    "RF64", "Wave64", "AIFF", "AU", "CAF",
)  # fmt: skip


@pytest.mark.parametrize("name", CLAIMING)
def test_a_file_cut_in_the_middle_says_what_is_missing(name: str, beckett: Samples) -> None:
    content = zoo.ZOO[name](beckett)
    for share in (0.31, 0.5, 0.77):
        samples, missing = decoded(content[: int(len(content) * share)])
        assert samples.size / 16_000 + missing == pytest.approx(beckett.size / 16_000, abs=0.1)
        assert missing > 1.5


@pytest.mark.parametrize(
    "name", ["MP3, CBR, no Xing frame", "OGG Vorbis", "OGG Opus", "OGG Opus, a chain of two", "AU of a pipe"]
)
def test_a_file_that_claims_no_length_is_decoded_as_far_as_it_goes(name: str, beckett: Samples) -> None:
    content = zoo.ZOO[name](beckett)
    samples, missing = decoded(content[: len(content) // 2])
    assert missing < (1 if "OGG" in name else 1e-9), "a page of OGG says where it ends, and holds up to a second"
    assert 0.3 * beckett.size < samples.size < 0.7 * beckett.size


@pytest.mark.parametrize("name", ["OGG Vorbis", "OGG Opus"])
def test_the_whole_packets_of_a_page_that_is_cut_are_decoded(name: str, beckett: Samples) -> None:
    samples, missing = decoded(zoo.ZOO[name](beckett)[:-1])
    assert missing == 0
    assert samples.size > beckett.size - 1600, "a page holds up to a second"


@pytest.mark.parametrize("name", ["MP3, VBR", "MP3, CBR, stereo 48 kHz", "MP3 between tags", "MP2"])
@pytest.mark.parametrize("part", [0.1, 0.4312, 0.7])
def test_the_second_part_of_an_mp3_is_decoded(name: str, part: float, beckett: Samples) -> None:
    content = zoo.ZOO[name](beckett)
    samples, missing = decoded(content[int(len(content) * part) + 1 :])
    assert missing == 0
    assert samples.size == pytest.approx((1 - part) * beckett.size, abs=0.12 * beckett.size)


def test_the_first_frame_is_searched_in_a_few_kilobytes_and_chance_is_no_frame() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        with pytest.raises(InvalidAudio, match="no readable audio file"):
            decoded(b"\0" + random.bytes(20_000))
    frames = zoo.without_xing(zoo.mp3(np.zeros(16_000, np.float32)))
    assert decoded(bytes(7_000) + frames)[0].size > 15_000
    with pytest.raises(InvalidAudio):
        decoded(bytes(9_000) + frames)


@pytest.mark.parametrize(
    "name", ["MP3, VBR", "FLAC", "OGG Vorbis", "OGG FLAC", "WAV, LIST, fact before", "AIFF", "AU", "CAF"]
)
def test_a_header_without_sound_is_refused(name: str, beckett: Samples) -> None:
    with pytest.raises(InvalidAudio):
        decoded(zoo.ZOO[name](beckett)[:20])


def test_a_chain_whose_second_stream_is_unreadable_keeps_the_first(beckett: Samples) -> None:
    first, second = (zoo.encoded(half, 16_000, "OGG", "VORBIS") for half in zoo.halves(beckett))
    damaged = second.replace(b"\x01vorbis", b"\x01sibrov")
    samples, missing = decoded(first + damaged)
    assert samples.size == pytest.approx(zoo.halves(beckett)[0].size, abs=2)
    assert missing == pytest.approx(zoo.halves(beckett)[1].size / 16_000, abs=2)
    with pytest.raises(InvalidAudio):
        decoded(damaged)


def test_an_empty_page_takes_nothing_from_those_behind(beckett: Samples) -> None:
    def renumbered(pages: list[bytes]) -> bytes:
        return b"".join(
            zoo.ogg_page(
                page[5], 7, number, page[27 : 27 + page[26]], page[27 + page[26] :], *struct.unpack("<q", page[6:14])
            )
            for number, page in enumerate(pages)
        )

    pages = zoo.ogg_pages(zoo.encoded(beckett, 16_000, "OGG", "VORBIS"))
    empty = zoo.ogg_page(0, 7, 0, b"", b"", -1)
    samples = audio.from_file(renumbered([*pages[:5], empty, *pages[5:]]), 60)
    assert np.array_equal(samples, audio.from_file(renumbered(pages), 60))
    assert samples.size == pytest.approx(beckett.size, abs=2)


def test_what_is_missing_goes_with_the_samples_and_is_logged() -> None:
    decoder, logged = FileDecoder(AudioSettings()), list[str]()
    results: list[list[Sequence[FileHead]] | RequestError] = []
    short, long = (zoo.piped_wav(np.zeros(16_000 * n, np.float32), 32_000 * n + 192_000) for n in (1, 40))
    decoder.submit([short, long], None, results.append, logged.append)
    assert eventually(lambda: results)
    assert isinstance(results[0], list)
    heads = [head for (head,) in results[0]]
    assert [round(head.missing, 2) for head in heads] == [6, 0]
    sound = incoming(heads[1].rest, heads[1].samples, heads[1].seconds)
    assert sum(block.size for block in sound.blocks) == 640_000
    assert sound.missing() == pytest.approx(6)
    assert eventually(lambda: len(logged) == 2)
    assert set(logged) == {"the file is cut short: 6.0 s are missing by its header"}
    decoder.close()


def test_samples_of_an_odd_number_of_bytes_lose_half_a_sample() -> None:
    content = zoo.piped_wav(np.full(1_000, 0.5, np.float32), 2_000)
    assert decoded(content[:-1])[0].size == 999


def test_a_size_of_two_gigabytes_is_too_much_and_not_unknown() -> None:
    samples, missing = decoded(zoo.piped_wav(np.zeros(16_000, np.float32), 2_000_000_000))
    assert (samples.size, round(missing)) == (16_000, 62_499)


def test_a_flac_that_says_too_few_samples_is_no_longer_than_it_says(beckett: Samples) -> None:
    content = bytearray(zoo.ZOO["FLAC"](beckett))
    struct.pack_into(">I", content, 22, 16_000)
    assert decoded(bytes(content))[0].size == 16_000


def test_a_chain_of_flac_that_is_cut_in_its_second_header_keeps_the_first(beckett: Samples) -> None:
    first, second = (zoo.ogg_flac(half) for half in zoo.halves(beckett))
    samples, missing = decoded(first + second)
    assert (samples.size, missing) == (beckett.size, 0)
    samples, missing = decoded(first + second[:50])
    assert (samples.size, missing) == (zoo.halves(beckett)[0].size, 0)
