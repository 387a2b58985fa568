"""Turns of live audio through a real server: the turn detector's, the caller's, and what is told of a pause."""

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asrloop_client import END_SEGMENT, AsrClient, StreamEvent
from numpy.typing import NDArray

from asrloop.tritonserver.process import TritonServer
from tests.conftest import StartServer, eventually, words
from tests.model_repository.test_contract import metric

Samples = NDArray[np.float32]
RATE = 16_000


def played(server: TritonServer, chunks: Iterable[Any], **options: Any) -> list[StreamEvent]:
    with (
        AsrClient(server.grpc_endpoint) as client,
        client.stream(chunks, sample_rate=RATE, timeout=60, **options) as events,
    ):
        return list(events)


def chunked(samples: Samples) -> list[Any]:
    return [samples[at : at + 1600] for at in range(0, samples.size, 1600)]


def finals(events: list[StreamEvent]) -> list[StreamEvent]:
    return [event for event in events if event.final]


@pytest.fixture(scope="module")
def long_pause(beckett: Samples) -> Samples:
    """Speech, two seconds of silence, and speech again."""
    silence = np.zeros(2 * RATE, np.float32)
    return np.concatenate([beckett[: 4 * RATE], silence, beckett[4 * RATE :], silence])


def test_the_turn_detector_ends_turns(server: TritonServer, long_pause: Samples) -> None:
    def asked() -> list[float]:
        """What finals say of their turns. On a busy machine its answers may come too late, the first ones above all."""
        nonlocal by_turn
        by_turn = played(server, chunked(long_pause), turn_detection="semantic", turn_threshold=0.5)
        return [event.turn for event in finals(by_turn) if event.turn is not None]

    by_turn: list[StreamEvent] = []
    turns: list[float] = []
    assert eventually(lambda: turns.extend(asked()) or turns, 60), "it was asked"
    assert all(0 <= turn <= 1 for turn in turns)
    by_silence = played(server, chunked(long_pause))
    assert all(event.turn is None for event in by_silence)
    assert (
        words(" ".join(event.stable for event in finals(by_turn)))[:4]
        == words(" ".join(event.stable for event in finals(by_silence)))[:4]
    )


def test_of_a_threshold_that_nothing_reaches_only_the_longest_pause_ends_a_turn(
    server: TritonServer, long_pause: Samples
) -> None:
    def paced(seconds: float) -> Iterator[Samples]:
        for number, chunk in enumerate(chunked(long_pause[: 6 * RATE])):
            time.sleep(seconds if number > 35 else 0)
            yield chunk

    # Of partials that follow one another closely only the latest comes: slower, where the machine is busy.
    for seconds in (0.05, 0.2, 0.8):
        events = played(
            server,
            paced(seconds),
            turn_detection="semantic",
            turn_threshold=1.0,
            parameters={"longest_pause_ms": 1000},
        )
        pauses = [event for event in events if event.pause]
        assert all(not event.final for event in pauses)
        if any(event.turn is not None and event.turn < 1 for event in pauses):
            break
    else:
        pytest.fail("no pause was told with its turn")
    assert finals(events)[0].heard > 4.5, "no shorter pause ended it"


def test_nothing_but_the_caller_ends_a_segment(server: TritonServer, long_pause: Samples) -> None:
    at = 5 * RATE
    whole = finals(played(server, chunked(long_pause[: 8 * RATE]), turn_detection="none"))
    assert len(whole) == 1
    chunks = [*chunked(long_pause[:at]), END_SEGMENT, END_SEGMENT, *chunked(long_pause[at : 8 * RATE]), END_SEGMENT]
    cut = finals(played(server, chunks, turn_detection="none"))
    assert len(cut) == 2
    assert cut[0].heard <= at / RATE + 0.04
    assert "matter" in words(cut[0].stable)
    assert "again" in words(cut[1].stable)


@pytest.mark.slow
def test_a_server_without_the_turn_detector_does_not_start(
    start_server: StartServer, model_repository: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(model_repository, copy)
    (copy / "asr_stream" / "1" / "turn_detector.onnx").unlink()
    with (
        pytest.raises(Exception, match=r"turn_detector\.onnx is missing; make it with `asrloop models`"),
        start_server(copy),
    ):
        pass


@pytest.mark.slow
def test_one_that_is_damaged_costs_the_turns_alone(
    start_server: StartServer, model_repository: Path, tmp_path: Path, long_pause: Samples
) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(model_repository, copy)
    (copy / "asr_stream" / "1" / "turn_detector.onnx").write_bytes(b"damaged")
    with start_server(copy) as server:
        events = played(server, chunked(long_pause), turn_detection="semantic")
        said = " ".join(event.stable for event in finals(events))
        assert words(said) == words(" ".join(event.stable for event in finals(played(server, chunked(long_pause)))))
        assert all(event.turn is None for event in events)


def test_a_decoding_that_a_pause_makes_useless_is_ended(server: TritonServer, beckett: Samples) -> None:
    def cancelled() -> float:
        return metric(server, 'asrloop_requests_total{outcome="cancelled"}')

    time.sleep(1)  # by now what earlier tests ended is counted
    before = cancelled()
    silence = np.zeros(RATE // 2, np.float32)

    def chunks(seconds: float) -> Iterator[Samples]:
        yield np.concatenate([silence, beckett[: 3 * RATE // 4]])
        time.sleep(seconds)
        yield silence

    for number in range(100):  # in some of them it is being decoded meanwhile, on slow and on fast machines
        assert finals(played(server, chunks(0.005 * 1.5 ** (number % 12))))
        if cancelled() > before:
            break
    assert eventually(lambda: cancelled() > before)
