"""Streams of live audio that are opened, ended and left by the thousand, and one that is read only when it is over."""

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.conftest import eventually, words
from tests.faults.conftest import Report, short_and_long
from tests.faults.harness import DEADLINE, Outcomes, Serving, Speech
from tests.faults.test_crowds import metric
from tests.live.test_nothing_said import HOUR, MINUTE, SOUNDS

A_CONNECTION = 10
"""Streams that follow one another on a connection; the last one is left without its end."""

AT_ONCE = 8

A_CHUNK = 400
A_SECOND = 800
"""Chunks that are sent, which is 20 times as fast as speech."""

NARROW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
"""A connection that holds this much of what is not read; usually it is some megabytes."""


def megabytes(process: int) -> float:
    """Resident memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


@short_and_long("streams", 400, 10_000)
def test_streams_by_the_thousand(streams: int, serving: Serving, speech: Speech, report: Report) -> None:
    """One stream in ten says something, one in ten is left by its caller, all others are short silence."""
    outcomes, lock = Outcomes(), threading.Lock()
    spoken, silent = speech.samples[: 16_000 * 3 // 2], np.zeros(3200, np.float32)
    left = iter(range(0, streams, A_CONNECTION))
    resident: list[dict[str, float]] = []

    def sequence(client: triton.InferenceServerClient, replies: "queue.Queue[Any]", number: int) -> str:
        samples = spoken if number % A_CONNECTION == 1 else silent
        tensor = triton.InferInput("WAV", [samples.size], "FP32")
        tensor.set_data_from_numpy(samples)
        is_left = number % A_CONNECTION == A_CONNECTION - 1
        client.async_stream_infer(
            "asr_stream", [tensor], request_id=str(number), sequence_id=f"stream {number} of many",
            sequence_start=True, sequence_end=not is_left, enable_empty_final_response=True,
        )  # fmt: skip
        texts = []
        while not is_left:
            reply = replies.get(timeout=DEADLINE)
            if isinstance(reply, Exception):
                return str(reply)
            if reply.get_response().outputs and reply.as_numpy("FINAL")[0]:
                texts.append(reply.as_numpy("STABLE")[0])
            if reply.get_response().parameters["triton_final_response"].bool_param:
                return "ok" if bool(texts) == (samples is spoken) else f"WRONG TEXT {texts}"
        return "left"

    def connections(_: int) -> None:
        while True:
            with lock:
                first = next(left, None)
                if first is not None and first % (streams // 10) == 0:
                    resident.append({name: megabytes(process) for name, process in serving.processes().items()})
            if first is None:
                return
            replies: queue.Queue[Any] = queue.Queue()
            with triton.InferenceServerClient(serving.address) as client:
                client.start_stream(lambda result, error, replies=replies: replies.put(error or result))
                for number in range(first, first + A_CONNECTION):
                    outcomes.add(sequence(client, replies, number), 0.0)
                client.stop_stream(cancel_requests=True)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(connections, range(AT_ONCE)))
    assert eventually(lambda: metric(serving, "asrloop_streams_open") == 0, DEADLINE)
    resident.append({name: megabytes(process) for name, process in serving.processes().items()})
    grown = {name: [round(one[name]) for one in resident] for name in resident[0]}
    report(outcomes, f"{grown} MB")
    assert outcomes.counts == {"ok": streams * 9 // 10, "left": streams // 10}
    if streams >= 10_000:
        for name, values in grown.items():
            assert values[-1] - values[1] < 16, (name, values)


@short_and_long("seconds", MINUTE, HOUR)
def test_streams_in_which_nobody_speaks(seconds: int, serving: Serving, report: Report) -> None:
    """All at a time, 25 times as fast as they sound."""
    outcomes, second = Outcomes(), np.arange(16_000) / 16_000
    before = {name: megabytes(process) for name, process in serving.processes().items()}

    def play(name: str) -> str:
        replies: queue.Queue[Any] = queue.Queue()
        with triton.InferenceServerClient(serving.address) as client:
            client.start_stream(lambda result, error: replies.put(error or result))
            for number in range(seconds):
                tensor = triton.InferInput("WAV", [second.size], "FP32")
                tensor.set_data_from_numpy(SOUNDS[name](number + second).astype(np.float32))
                client.async_stream_infer(
                    "asr_stream", [tensor], sequence_id=name, sequence_start=number == 0,
                    sequence_end=number == seconds - 1, enable_empty_final_response=True,
                )  # fmt: skip
                time.sleep(1 / 25)
            answers = [replies.get(timeout=DEADLINE) for _ in range(seconds)]
        if errors := [str(one) for one in answers if isinstance(one, Exception)]:
            return errors[0]
        return "WRONG TEXT" if any(one.get_response().outputs for one in answers) else "ok"

    with ThreadPoolExecutor(len(SOUNDS)) as pool:
        for outcome in pool.map(play, SOUNDS):
            outcomes.add(outcome, 0.0)
    grown = {name: round(megabytes(process) - before[name]) for name, process in serving.processes().items()}
    report(outcomes, f"{grown} MB more")
    assert outcomes.counts == {"ok": len(SOUNDS)}
    if seconds == HOUR:
        assert max(grown.values()) < 32


@short_and_long("times", 12, 180)
def test_a_stream_that_is_read_when_it_is_over(times: int, serving: Serving, speech: Speech, report: Report) -> None:
    """Triton keeps what is not read, and nothing is lost. The words take ten seconds each time; the cost is reported."""
    once = np.concatenate([speech.samples, np.zeros(-speech.samples.size % A_CHUNK + 8_000, np.float32)])
    parts = np.split(once, once.size // A_CHUNK) * times

    def requests() -> Iterator[service_pb2.ModelInferRequest]:
        for number, part in enumerate(parts):
            request = service_pb2.ModelInferRequest(model_name="asr_stream", id=str(number))
            tensor = request.inputs.add(name="WAV", datatype="FP32")
            tensor.shape.append(part.size)
            request.raw_input_contents.append(part.tobytes())
            request.parameters["sequence_id"].string_param = "not read"
            request.parameters["sequence_start"].bool_param = number == 0
            request.parameters["sequence_end"].bool_param = number == len(parts) - 1
            request.parameters["triton_enable_empty_final_response"].bool_param = True
            yield request
            time.sleep(1 / A_SECOND)
        sent.set()

    sent, outcomes = threading.Event(), Outcomes()
    before = megabytes(serving.server)
    with grpc.insecure_channel(serving.address, NARROW) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(requests())
        assert sent.wait(10 * len(parts) / A_SECOND + DEADLINE)
        assert eventually(lambda: metric(serving, "asrloop_streams_open") == 0, 60)
        grown = megabytes(serving.server) - before
        answers, events, is_over = 0, [], False
        while not is_over or answers < len(parts):
            message = next(call)
            response = message.infer_response
            assert not message.error_message
            is_final = response.parameters["triton_final_response"].bool_param
            answers += is_final
            is_over |= is_final and response.id == "0"
            if response.outputs:
                names = [output.name for output in response.outputs]
                events.append(dict(zip(names, response.raw_output_contents, strict=True)))
        call.cancel()
    stable: dict[bytes, bytes] = {}
    finals = []
    for event in events:
        text = event["STABLE"][4:]  # behind its length
        assert text.startswith(stable.get(event["SEGMENT"], b""))
        stable[event["SEGMENT"]] = text
        if event["FINAL"] == b"\1":
            finals.append(text.decode())
    outcomes.counts["ok"] = words(" ".join(finals)).count("no matter")
    report(outcomes, f"{1000 * grown / (len(parts) + len(events)):.1f} kB a message")
    assert outcomes.counts["ok"] == times
    if times >= 180:
        assert grown < 8e-3 * (len(parts) + len(events))
