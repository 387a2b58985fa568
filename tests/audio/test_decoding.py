"""Files are decoded side by side within bounds: one answer each, a full inbox refuses, time limits hold."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from asrloop.audio import decoding
from asrloop.audio.decoding import FileDecoder, FileHead
from asrloop.audio.pcm import Samples
from asrloop.config import AudioSettings
from asrloop.errors import DeadlineExceeded, DecodeFailed, EngineClosed, InvalidAudio, Overloaded, RequestError
from tests.conftest import eventually

Results = list[list[FileHead] | RequestError]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds every decoding back until it is set; decoding asks its check all the while."""
    opened = threading.Event()

    def blocks(
        content: bytes, max_seconds: float, check: decoding.Callable[[], None], announce: object
    ) -> Iterator[Samples]:
        while not opened.wait(0.01):
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
    assert eventually(lambda: len(results) == 3)
    decoder.submit([b"file", b"other"], None, results.append)
    assert eventually(lambda: len(results) == 4)
    assert isinstance(results[3], list)
    assert [bytes(one.samples.astype(np.uint8)) for one in results[3]] == [b"file", b"other"]
    decoder.close()
    assert len(results) == 4


def test_the_callers_time_and_the_decoders_own_limit_end_the_work(gate: threading.Event) -> None:
    decoder, results = FileDecoder(AudioSettings(decode_seconds=0.2)), Results()
    decoder.submit([b"file"], time.monotonic() + 0.05, results.append)
    assert eventually(lambda: len(results) == 1)
    decoder.submit([b"file"], None, results.append)
    assert eventually(lambda: len(results) == 2)
    decoder.close()
    assert isinstance(results[0], DeadlineExceeded)
    assert isinstance(results[1], InvalidAudio)
    assert "takes over 0.2 s to decode for 600 s of sound (audio.decode_seconds)" in str(results[1])


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
