"""Streams of live audio that are opened, ended and left by the thousand: each gets its end, and no process grows."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from tests.conftest import eventually
from tests.faults.conftest import FULL, Report
from tests.faults.harness import DEADLINE, Outcomes, Serving, Speech
from tests.faults.test_crowds import metric

STREAMS = 10_000 if FULL else 400
A_CONNECTION = 10
"""Streams that follow one another on a connection; the last one is left without its end."""

AT_ONCE = 8


def megabytes(process: int) -> float:
    """Resident memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


def test_streams_by_the_thousand(serving: Serving, speech: Speech, report: Report) -> None:
    """One stream in ten says something, one in ten is left by its caller, all others are short silence."""
    outcomes, lock = Outcomes(), threading.Lock()
    spoken, silent = speech.samples[: 16_000 * 3 // 2], np.zeros(3200, np.float32)
    left = iter(range(0, STREAMS, A_CONNECTION))
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
                if first is not None and first % (STREAMS // 10) == 0:
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
    assert outcomes.counts == {"ok": STREAMS * 9 // 10, "left": STREAMS // 10}
    if FULL:
        for name, values in grown.items():
            assert values[-1] - values[1] < 16, (name, values)
