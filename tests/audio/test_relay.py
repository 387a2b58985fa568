"""The rest of a long file goes from one process to the other bit by bit, with its errors, and at the reader's pace."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from asrloop.audio import relay
from asrloop.audio.pcm import Samples
from asrloop.audio.relay import Outlet, incoming
from asrloop.errors import DecodeFailed, EngineClosed, InvalidAudio, TooLong
from tests.conftest import eventually

HEAD = np.arange(20_000, dtype=np.float32)


def sending(blocks: Iterator[Samples]) -> tuple[str, threading.Thread]:
    outlet = Outlet()
    thread = threading.Thread(target=outlet.send, args=(blocks,), daemon=True)
    thread.start()
    return outlet.handle, thread


def test_all_samples_arrive_behind_the_head() -> None:
    rest = [np.arange(size, dtype=np.float32) for size in (1, 16_000, 70_001)]
    handle, thread = sending(iter(rest))
    long = incoming(handle, HEAD, 12.5)
    assert np.array_equal(np.concatenate([*long.blocks]), np.concatenate([HEAD, *rest]))
    assert long.seconds == 12.5
    thread.join(30)
    assert not thread.is_alive()


def test_samples_that_are_lost_on_the_way_are_told() -> None:
    class Thinned(np.ndarray[Any, np.dtype[np.float32]]):
        """Says that it has more samples than it gives."""

        size = property(lambda self: 5 + len(self))

    handle, _ = sending(iter([np.ones(100, np.float32).view(Thinned)]))
    with pytest.raises(DecodeFailed, match="100 of 105 samples of the rest of the file came; send it again"):
        list(incoming(handle, HEAD, 0).blocks)


@pytest.mark.parametrize("error", [TooLong("audio is 9 s long"), InvalidAudio("cut: at 5"), EngineClosed("closing")])
def test_an_error_arrives_as_it_is(error: Exception) -> None:
    def breaks() -> Iterator[Samples]:
        yield HEAD
        raise error

    handle, _ = sending(breaks())
    with pytest.raises(type(error)) as arrived:
        list(incoming(handle, HEAD, 0).blocks)
    assert str(arrived.value) == str(error)


def test_a_sender_that_ends_without_a_word_is_noticed() -> None:
    def bug() -> Iterator[Samples]:
        yield HEAD
        raise KeyError

    outlet = Outlet()

    def send() -> None:
        with pytest.raises(KeyError):
            outlet.send(bug())

    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(DecodeFailed, match="the process that parses files ended"):
        list(incoming(outlet.handle, HEAD, 0).blocks)


def test_the_reader_sets_the_pace_and_may_leave() -> None:
    made = 0

    def endless() -> Iterator[Samples]:
        nonlocal made
        while True:
            made += 1
            yield np.zeros(16_000, np.float32)

    handle, thread = sending(endless())
    long = incoming(handle, HEAD, 0)
    for _ in range(5):
        next(long.blocks)
    assert not eventually(lambda: made > 30, 0.3), "blocks pile up somewhere"
    long.close()
    thread.join(30)
    assert not thread.is_alive()


def test_a_reader_that_reads_late_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "STALL_SECONDS", 1)
    rest = [np.full(16_000, number, np.float32) for number in range(20)]
    outlet = Outlet(stall_seconds=60)
    threading.Thread(target=outlet.send, args=(rest,), daemon=True).start()
    long = incoming(outlet.handle, HEAD, 0)
    time.sleep(2)
    assert np.array_equal(np.concatenate([*long.blocks]), np.concatenate([HEAD, *rest]))


def test_a_reader_that_reads_nothing_for_too_long_is_given_up() -> None:
    outlet = Outlet(stall_seconds=0.1)
    thread = threading.Thread(target=outlet.send, args=([HEAD] * 20,), daemon=True)
    thread.start()
    long = incoming(outlet.handle, HEAD, 0)
    thread.join(30)
    assert not thread.is_alive()
    with pytest.raises(DecodeFailed, match="send it again"):
        list(long.blocks)


def test_closing_wakes_a_reader_on_another_thread() -> None:
    gate = threading.Event()

    def slow() -> Iterator[Samples]:
        gate.wait(60)
        yield HEAD

    handle, _ = sending(slow())
    long = incoming(handle, HEAD[:1], 0)
    next(long.blocks)
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(DecodeFailed):
            next(long.blocks)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    long.close()
    assert ended.wait(30)
    gate.set()


@pytest.mark.parametrize("handle", ["", "x" * 32, "0" * 32, "../../etc/passwd", "0" * 31 + "\0"])
def test_a_handle_that_was_not_given_out_opens_nothing(handle: str) -> None:
    with pytest.raises(
        (DecodeFailed, InvalidAudio), match=r"the rest of the file cannot be read|REST is .*: leave it out"
    ):
        incoming(handle, HEAD, 0)


def test_a_reader_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "ACCEPT_SECONDS", 0.05)
    _, thread = sending(iter([HEAD]))
    thread.join(30)
    assert not thread.is_alive()
