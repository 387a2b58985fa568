"""Files are decoded side by side within bounds: one answer each, a full inbox refuses, time limits hold."""

import gc
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from asrloop.audio import decoding, relay
from asrloop.audio.decoding import FileDecoder, FileHead
from asrloop.audio.length import Length
from asrloop.audio.pcm import SAMPLE_RATE, LongAudio, Samples
from asrloop.audio.relay import incoming
from asrloop.config import AudioSettings
from asrloop.errors import DeadlineExceeded, DecodeFailed, EngineClosed, InvalidAudio, Overloaded, RequestError
from tests.audio import zoo
from tests.conftest import eventually

Results = list[list[Sequence[FileHead]] | RequestError]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds every decoding back until it is set; decoding asks its check all the while."""
    opened = threading.Event()

    def blocks(
        content: bytes, max_seconds: float, check: decoding.Callable[[], None], length: Length, *_: object
    ) -> Iterator[Samples]:
        while not opened.wait(0 if content == b"busy" else 0.01):
            check()
        if content == b"bug":
            raise KeyError("bug")
        yield np.frombuffer(content, np.uint8).astype(np.float32)

    monkeypatch.setattr(decoding, "blocks", blocks)
    yield opened
    opened.set()


def test_a_full_inbox_refuses_and_everyone_else_is_answered_once(gate: threading.Event) -> None:
    decoder, results = FileDecoder(AudioSettings(decode_inbox=3)), Results()
    for _ in range(3):
        decoder.submit([b"file"], None, results.append)
    with pytest.raises(Overloaded, match=r"3 files are being decoded or wait \(audio.decode_inbox\)"):
        decoder.submit([b"file"], None, results.append)
    gate.set()
    assert eventually(lambda: len(results) == 3 and not decoder._lanes[0].taken)
    decoder.submit([b"file", b"other"], None, results.append)
    assert eventually(lambda: len(results) == 4)
    assert isinstance(results[3], list)
    assert [bytes(one.samples.astype(np.uint8)) for (one,) in results[3]] == [b"file", b"other"]
    decoder.close()
    assert len(results) == 4


def test_the_callers_time_and_the_decoders_own_limit_end_the_work(gate: threading.Event) -> None:
    decoder, results = FileDecoder(AudioSettings(decode_seconds=0.2)), Results()
    decoder.submit([b"file"], time.monotonic() + 0.05, results.append)
    assert eventually(lambda: len(results) == 1)
    decoder.submit([b"busy"], None, results.append)
    assert eventually(lambda: len(results) == 2)
    decoder.close()
    assert isinstance(results[0], DeadlineExceeded)
    assert isinstance(results[1], InvalidAudio)
    assert "takes over 0.2 s to decode for 600 s of sound (audio.decode_seconds)" in str(results[1])


def test_a_file_does_not_pay_for_the_time_of_others(gate: threading.Event) -> None:
    decoder, results = FileDecoder(AudioSettings(decode_seconds=0.2)), Results()
    decoder.submit([b"file"], None, results.append)
    time.sleep(0.5)  # as where others have the processor
    gate.set()
    assert eventually(lambda: results)
    decoder.close()
    assert isinstance(results[0], list), results


def test_small_files_do_not_wait_for_large_ones(gate: threading.Event) -> None:
    decoder, small, large = FileDecoder(AudioSettings(decode_inbox=8)), Results(), Results()
    for _ in range(8):
        decoder.submit([bytes(2 << 20)], None, large.append)
    with pytest.raises(Overloaded):
        decoder.submit([bytes(2 << 20)], None, large.append)
    for _ in range(8):
        decoder.submit([b"file"], time.monotonic() + 0.1, small.append)
    assert eventually(lambda: len(small) == 8), "they are at work, not behind the large ones"
    assert not large
    gate.set()
    decoder.close()
    assert len(large) == 8


def test_a_bug_concerns_one_file_and_a_reply_that_fails_is_told(gate: threading.Event) -> None:
    gate.set()
    bugs: list[str] = []
    decoder, results = FileDecoder(AudioSettings(), on_bug=lambda: bugs.append("told")), Results()
    for _ in range(8):
        decoder.submit([b"file"], None, lambda result: 1 / 0)
    decoder.submit([b"bug"], None, results.append)
    assert eventually(lambda: len(results) == 1)
    assert isinstance(results[0], DecodeFailed)
    decoder.close()
    assert bugs == ["told"] * 8


def test_closing_answers_what_waits(gate: threading.Event) -> None:
    decoder, results = FileDecoder(AudioSettings()), Results()
    for _ in range(10):
        decoder.submit([b"file"], None, results.append)
    decoder.close()
    assert len(results) == 10
    assert all(isinstance(result, EngineClosed) for result in results)


FORTY_SECONDS = 40 * SAMPLE_RATE


@pytest.fixture(scope="module")
def long_file() -> bytes:
    return zoo.encoded(np.zeros(FORTY_SECONDS, np.float32), SAMPLE_RATE, "FLAC", "PCM_16")


@pytest.fixture(scope="module")
def short_file() -> bytes:
    return zoo.encoded(np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE, "FLAC", "PCM_16")


def test_long_files_take_places_of_their_own_until_their_rests_are_sent(long_file: bytes, short_file: bytes) -> None:
    decoder, all_are_in = FileDecoder(AudioSettings()), threading.Event()
    opened: list[LongAudio] = []

    def answered(result: list[Sequence[FileHead]] | RequestError) -> None:
        assert isinstance(result, list)
        opened.extend(incoming(one.rest, one.samples, one.seconds) for (one,) in result)
        assert all_are_in.wait(60)

    decoder.submit([long_file] * 2, None, answered)
    assert eventually(lambda: len(opened) == 2)
    for _ in range(63):
        decoder.submit([long_file], None, answered)
    all_are_in.set()
    assert eventually(lambda: len(opened) == 65 and not any(lane.taken for lane in decoder._lanes))
    refused, short = Results(), Results()
    decoder.submit([long_file], None, refused.append)
    assert eventually(lambda: refused)
    assert isinstance(refused[0], Overloaded)
    assert "64 requests with long files are recognised or wait (audio.decode_inbox); retry later" in str(refused[0])
    decoder.submit([short_file], None, short.append)
    assert eventually(lambda: short)
    assert isinstance(short[0], list), "short files do not wait for long ones"

    for long in opened:
        assert sum(block.size for block in long.blocks) == FORTY_SECONDS
    assert eventually(lambda: all(lane.taken == 0 for lane in decoder._lanes) and decoder._with_rests == 0)
    decoder.close()


def test_a_file_waits_for_its_reader_as_long_as_it_was_told_to(
    long_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "STALL_SECONDS", 1)
    decoder, results = FileDecoder(AudioSettings(), stall_seconds=60), Results()
    decoder.submit([long_file], None, results.append)
    assert eventually(lambda: len(results) == 1)
    assert isinstance(results[0], list)
    ((file,),) = results[0]
    long = incoming(file.rest, file.samples, file.seconds)
    time.sleep(2)
    assert sum(block.size for block in long.blocks) == FORTY_SECONDS
    decoder.close()


@pytest.mark.parametrize("by_channel", [False, True])
def test_a_file_whose_reader_leaves_is_let_go_of_at_once(by_channel: bool) -> None:
    """Hundreds of MB, and the collector of cycles comes when it likes."""
    content = zoo.encoded(np.zeros((300 * SAMPLE_RATE, 2), np.float32), SAMPLE_RATE, "WAV", "PCM_16")
    decoder, results = FileDecoder(AudioSettings()), Results()
    gc.disable()
    try:
        before = sys.getrefcount(content)
        decoder.submit([content], None, results.append, by_channel=by_channel)
        assert eventually(lambda: results)
        (heads,) = results.pop()  # type: ignore[misc]  # no error
        for one in heads:
            long = incoming(one.rest, one.samples, one.seconds)
            long.close()
            with pytest.raises(DecodeFailed):
                list(long.blocks)
        assert eventually(lambda: sys.getrefcount(content) <= before)
    finally:
        gc.enable()
        decoder.close()


def test_rests_are_decoded_in_turn_and_their_readers_wait_longer_than_for_a_lost_sender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "usable_cores", lambda: 2)
    monkeypatch.setattr(decoding, "ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(relay, "STALL_SECONDS", 1)  # less than six blocks take
    under_way, most = [], [0]

    def blocks(
        content: bytes, max_seconds: float, check: decoding.Callable[[], None], length: Length, *_: object
    ) -> Iterator[Samples]:
        yield np.zeros(31 * SAMPLE_RATE, np.float32)
        for number in range(2):
            under_way.append(number)
            most[0] = max(most[0], len(under_way))
            time.sleep(0.3)
            under_way.pop()
            yield np.full(100, number, np.float32)

    monkeypatch.setattr(decoding, "blocks", blocks)
    decoder, results = FileDecoder(AudioSettings()), Results()
    for _ in range(6):
        decoder.submit([b"long"], None, results.append)
    assert eventually(lambda: len(results) == 6)
    heard: list[Samples] = []

    def read(file: FileHead) -> None:
        heard.append(np.concatenate([*incoming(file.rest, file.samples, file.seconds).blocks]))

    readers = [
        threading.Thread(target=read, args=(file,)) for files in results if isinstance(files, list) for (file,) in files
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert most[0] == 1
    assert [list(each[-200::100]) for each in heard] == [[0, 1]] * 6
    decoder.close()
