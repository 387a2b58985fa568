"""Live audio through a real server: words while they are spoken, and clear errors for streams that go wrong."""

import itertools
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray

from asrloop.live.events import Event, SaidWord
from asrloop.tritonserver.process import TritonServer
from tests.conftest import eventually, words
from tests.model_repository.test_contract import metric

Samples = NDArray[np.float32]


class Caller:
    """A stream by NVIDIA's client. Events and errors come into one queue; an empty final response is None."""

    def __init__(self, server: TritonServer) -> None:
        self.client = triton_grpc.InferenceServerClient(server.grpc_endpoint)
        self.replies: queue.Queue[Any] = queue.Queue()
        self.client.start_stream(lambda result, error: self.replies.put(error or result))

    def send(
        self,
        samples: NDArray[Any],
        sequence: int | str,
        *,
        start: bool = False,
        end: bool = False,
        name: str = "WAV",
        **more: Any,
    ) -> None:
        tensor = triton_grpc.InferInput(name, [samples.size], "INT16" if samples.dtype == np.int16 else "FP32")
        tensor.set_data_from_numpy(samples)
        self.client.async_stream_infer(
            "asr_stream", [tensor], sequence_id=sequence, sequence_start=start, sequence_end=end,
            request_id="start" if start else "chunk", enable_empty_final_response=True, parameters=more or None,
        )  # fmt: skip

    def until_over(self, seconds: float = 120.0, errors: list[Exception] | None = None) -> list[Event]:
        """Events until START's request has its final response. Raises the first error, or notes all in ``errors``."""
        events = []
        deadline = time.monotonic() + seconds
        while True:
            reply = self.replies.get(timeout=max(0.01, deadline - time.monotonic()))
            if isinstance(reply, Exception):
                if errors is None:
                    raise reply
                errors.append(reply)
                continue
            response = reply.get_response()
            if response.id != "start":
                continue
            if response.outputs:
                one = {name: reply.as_numpy(name)[0] for name in ("SEGMENT", "STABLE", "TAIL", "FINAL")}
                start, heard = reply.as_numpy("TIMES")
                said = [reply.as_numpy(name) for name in ("WORDS", "WORD_TIMES", "WORD_CONFIDENCES")]
                events.append(
                    Event(
                        int(one["SEGMENT"]),
                        one["STABLE"].decode(),
                        one["TAIL"].decode(),
                        bool(one["FINAL"]),
                        start,
                        heard,
                        words=[
                            SaidWord(word.decode(), begin, end, confidence)
                            for word, (begin, end), confidence in zip(*said, strict=True)
                        ]
                        if said[0] is not None
                        else [],
                    )
                )
            if response.parameters["triton_final_response"].bool_param:
                return events

    def has_event(self) -> bool:
        """True when an event or an error waits to be read."""
        return any(isinstance(one, Exception) or one.get_response().outputs for one in list(self.replies.queue))

    def close(self) -> None:
        self.client.stop_stream(cancel_requests=True)
        self.client.close()


@pytest.fixture
def caller(server: TritonServer) -> Iterator[Caller]:
    caller = Caller(server)
    yield caller
    caller.close()


def play(
    caller: Caller, samples: NDArray[Any], sequence: int | str = 1, chunk: int = 1600, name: str = "WAV", **more: Any
) -> list[Event]:
    """All of ``samples`` as fast as they can be sent."""
    starts = range(0, samples.size, chunk)
    for start in starts:
        caller.send(
            samples[start : start + chunk], sequence, start=start == 0, end=start == starts[-1], name=name,
            **(more if start == 0 else {}),
        )  # fmt: skip
    return caller.until_over()


def text(events: list[Event]) -> str:
    return words(" ".join(event.stable for event in events if event.final))


def is_beckett(found: str, count: int = 1) -> bool:
    """Short segments and int8 arithmetic may turn one word in twelve into another one; none is lost or doubled."""
    return found.count("no matter") == count and abs(len(found.split()) - 12 * count) <= count


def test_words_come_in_order_and_stable_ones_stay(caller: Caller, beckett: Samples) -> None:
    events = play(caller, beckett)
    assert is_beckett(text(events))
    assert [event.segment for event in events] == sorted(event.segment for event in events)
    for before, after in itertools.pairwise(events):
        assert after.heard >= before.heard
        if after.segment == before.segment:
            assert not before.final
            assert after.stable.startswith(before.stable)
    assert all(not event.tail for event in events if event.final)


CHUNKS = (0.01, 0.037, 0.1, 1.0, 3.0, 60.0)
"""Seconds."""


def test_finals_say_when_each_word_was_spoken(caller: Caller, beckett: Samples) -> None:
    events = play(caller, beckett, word_times=True)
    assert is_beckett(text(events))
    assert not any(event.words for event in events if not event.final)
    said = [word for event in events for word in event.words]
    assert words(" ".join(word.text for word in said)) == text(events)
    seconds = beckett.size / 16_000
    assert all(0 <= one.start < one.end <= seconds and 0 < one.confidence <= 1 for one in said)
    assert all(one.end <= other.start + 0.1 for one, other in pairwise(said))
    for event in events:
        assert all(event.start <= word.start and word.end <= event.heard for word in event.words)


@pytest.mark.parametrize("recording", ["beckett.wav", pytest.param("endgame_nagg_nell.wav", marks=pytest.mark.slow)])
def test_chunks_of_any_size_give_the_same_final_words(caller: Caller, assets: Path, recording: str) -> None:
    """As fast as they can be sent."""
    samples, rate = soundfile.read(assets / recording, dtype="float32")
    texts = {
        chunk: text(play(caller, samples, sequence=f"{chunk} s", chunk=round(chunk * rate), sample_rate=rate))
        for chunk in CHUNKS
    }
    assert len(texts[0.1].split()) > 10
    assert texts == dict.fromkeys(CHUNKS, texts[0.1])


def test_integers_and_other_rates(caller: Caller, beckett: Samples) -> None:
    integers = (beckett * 32767).astype(np.int16)
    assert is_beckett(text(play(caller, integers, name="PCM")))
    twice = np.repeat(beckett, 2)
    assert is_beckett(text(play(caller, twice, sequence=2, chunk=3200, sample_rate=32_000)))


def test_partials_come_while_it_is_spoken(caller: Caller, beckett: Samples) -> None:
    for start in range(0, 17_600, 1600):  # the first pause comes behind it
        caller.send(beckett[start : start + 1600], 5, start=start == 0)
    assert eventually(caller.has_event), "no words before more is said"
    for start in range(17_600, 40_000, 1600):
        caller.send(beckett[start : start + 1600], 5)
    caller.send(np.zeros(0, np.float32), 5, end=True)
    events = caller.until_over()
    assert any(not event.final and event.tail for event in events)
    assert events[0].heard < 1.6


def test_a_stream_without_speech_has_no_events(caller: Caller) -> None:
    rng = np.random.default_rng(0)
    assert play(caller, np.zeros(160_000, np.float32)) == []
    assert play(caller, (0.01 * rng.standard_normal(160_000)).astype(np.float32), sequence=2) == []


@pytest.mark.parametrize(
    ("sends", "code"),
    [
        ([{}], r"\[bad_sequence\] sequence 9 is not open"),
        ([{"end": True}], r"\[bad_sequence\] sequence 9 is not open"),
        ([{"start": True}, {"start": True}], r"\[bad_sequence\] sequence 9 is open already"),
        ([{"start": True, "sample_rate": 7}], r"\[invalid_audio\] sample_rate is 7"),
    ],
    ids=["chunk without start", "end without start", "two starts", "rate"],
)
def test_requests_out_of_order_are_refused(
    caller: Caller, beckett: Samples, sends: list[dict[str, Any]], code: str
) -> None:
    for options in sends:
        caller.send(np.zeros(160, np.float32), 9, **options)
    with pytest.raises(Exception, match=code):
        caller.until_over()


def test_a_chunk_with_nan_is_refused_and_the_stream_goes_on(caller: Caller, beckett: Samples) -> None:
    caller.send(beckett[:80_000], 3, start=True)
    caller.send(np.full(160, np.nan, np.float32), 3)
    caller.send(beckett[80_000:], 3, end=True)
    errors: list[Exception] = []
    assert is_beckett(text(caller.until_over(errors=errors)))
    assert [str(each)[:28] for each in errors] == ["[invalid_audio] WAV holds nan"[:28]]


def test_two_streams_of_one_connection_stay_apart(server: TritonServer, beckett: Samples) -> None:
    callers = [Caller(server), Caller(server)]
    for start in range(0, beckett.size, 1600):
        for number, caller in enumerate(callers):
            chunk = beckett[start : start + 1600] * (1 if number == 0 else 0)
            caller.send(chunk, f"stream {number}", start=start == 0, end=start + 1600 >= beckett.size)
    heard, silent = (caller.until_over() for caller in callers)
    assert is_beckett(text(heard))
    assert silent == []
    for caller in callers:
        caller.close()


@pytest.mark.parametrize("more", [{}, {"sample_rate": 7}], ids=["right", "wrong in itself"])
def test_a_second_start_puts_no_word_into_the_first_text(
    server: TritonServer, beckett: Samples, more: dict[str, Any]
) -> None:
    """Integers as ids are what NVIDIA's examples use, so two callers meet."""
    number = 1000 + len(more)
    first, second = Caller(server), Caller(server)
    first.send(beckett[:80_000], number, start=True)
    assert eventually(first.has_event)
    second.send(beckett[80_000:], number, start=True, **more)
    for part in np.split(beckett[80_000 : 80_000 + 48_000], 3):
        second.send(part, number)
    second.send(beckett[-16_000:], number, end=True)
    refused = [second.replies.get(timeout=60) for _ in range(5)]
    codes = ["[invalid_audio] sample_rate is 7" if more else "[bad_sequence]", *["[bad_sequence]"] * 4]
    assert all(code in str(one) for code, one in zip(codes, refused, strict=True))
    told = []
    while not isinstance(told[-1] if told else None, Exception):
        told.append(first.replies.get(timeout=60))
    assert f"[bad_sequence] sequence {number} is open already" in str(told.pop())
    texts = [
        one.as_numpy("STABLE")[0].decode() for one in told if one.get_response().outputs and one.as_numpy("FINAL")[0]
    ]
    assert "ever tried" in words(" ".join(texts))
    assert "fail better" not in words(" ".join(texts))
    for caller in (first, second):
        caller.close()


KILLED = """
import sys, time, numpy as np, tritonclient.grpc as triton
client = triton.InferenceServerClient(sys.argv[1])
client.start_stream(lambda result, error: None)
for number in range(4):
    tensor = triton.InferInput("WAV", [1600], "FP32")
    tensor.set_data_from_numpy(np.zeros(1600, np.float32))
    client.async_stream_infer("asr_stream", [tensor], sequence_id=f"{sys.argv[2]}-{number}", sequence_start=True)
print("open", flush=True)
time.sleep(60)
"""


def test_clients_that_are_killed_leave_nothing_open(server: TritonServer) -> None:
    assert eventually(lambda: metric(server, "asrloop_streams_open") == 0)
    clients = [
        subprocess.Popen([sys.executable, "-c", KILLED, server.grpc_endpoint, str(number)], stdout=subprocess.PIPE)
        for number in range(5)
    ]
    for client in clients:
        assert client.stdout is not None
        assert client.stdout.readline() == b"open\n"
    assert eventually(lambda: metric(server, "asrloop_streams_open") == 20)
    for client in clients:
        os.kill(client.pid, signal.SIGKILL)
        client.wait()
        assert client.stdout is not None
        client.stdout.close()
    assert eventually(lambda: metric(server, "asrloop_streams_open") == 0, 20), "sooner than idle streams end"


def test_the_loop_refuses_tokens_that_do_not_exist(server: TritonServer, beckett: Samples) -> None:
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:
        inputs = [
            triton_grpc.InferInput("SAMPLES", [1, beckett.size], "FP32"),
            triton_grpc.InferInput("DRAFT", [1, 1], "INT32"),
        ]
        inputs[0].set_data_from_numpy(beckett[None])
        inputs[1].set_data_from_numpy(np.array([[10**6]], np.int32))
        with pytest.raises(Exception, match=r"\[invalid_option\] PREFIX or DRAFT has token 1000000"):
            client.infer("decoder_loop", inputs)
