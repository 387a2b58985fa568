"""More callers than fit, callers that vanish, and one that reads slowly: the others are served, and nothing stays behind."""

import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from asrloop.tritonserver.processes import model_processes
from tests.conftest import eventually
from tests.faults.conftest import Report, short_and_long
from tests.faults.harness import DEADLINE, Outcomes, Serving, Speech, callers


def metric(serving: Serving, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{serving.metrics}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@short_and_long("crowd", 100, 500)
def test_a_crowd_at_once(crowd: int, serving: Serving, speech: Speech, report: Report) -> None:
    outcomes = Outcomes()
    start = threading.Barrier(crowd)

    def ask(number: int) -> None:
        start.wait(60)
        started = time.monotonic()
        outcomes.add(speech.ask(serving.address, by_file=number % 2 == 0), time.monotonic() - started)

    with ThreadPoolExecutor(crowd) as pool:
        list(pool.map(ask, range(crowd)))
    report(outcomes)
    assert sum(outcomes.counts.values()) == crowd
    assert set(outcomes.counts) <= {"ok", "unavailable", "deadline_exceeded"}
    assert outcomes.counts["ok"]
    serving.wait(speech)
    assert "restarting" not in serving.said().splitlines()[-1], "a busy server was taken for a hung one"


@pytest.mark.slow
@short_and_long("requests", 6_000, 60_000)
def test_callers_that_want_one_output(requests: int, serving: Serving, report: Report) -> None:
    """What nobody asks for is freed while it is sent. 5,000 such requests used to end the model process."""
    outcomes, room = Outcomes(), threading.Semaphore(48)
    tensor = triton.InferInput("WAV", [1, 1600], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1600), np.float32))

    def answered(result: triton.InferResult | None, error: Exception | None) -> None:
        outcomes.add("ok" if error is None and result is not None else str(error), 0.0)
        room.release()

    with triton.InferenceServerClient(serving.address) as client:
        for _ in range(requests):
            assert room.acquire(timeout=DEADLINE)
            wanted = [triton.InferRequestedOutput("COMPLETE")]
            client.async_infer("decoder_loop", [tensor], answered, outputs=wanted, client_timeout=DEADLINE)
        assert eventually(lambda: sum(outcomes.counts.values()) == requests)
    report(outcomes)
    assert outcomes.counts == {"ok": requests}


@short_and_long("count", 60, 300)
def test_callers_that_vanish(count: int, serving: Serving, speech: Speech, report: Report) -> None:
    """Calls are given up at any moment from the first to the last of a request."""
    random_ = random.Random(5)
    with callers(serving.address, speech, count=2) as outcomes, triton.InferenceServerClient(serving.address) as client:
        for number in range(count):
            if number % 2:
                tensor = triton.InferInput("WAV", [1, speech.samples.size], "FP32")
                tensor.set_data_from_numpy(speech.samples[None])
            else:
                tensor = triton.InferInput("AUDIO", [1, 1], "BYTES")
                tensor.set_data_from_numpy(np.array([[speech.file]], np.object_))
            model = ("asr_file", "asr_ensemble", "asr_file", "decoder_loop")[number % 4]
            call = client.async_infer(model, [tensor], callback=lambda result, error: None)
            time.sleep(random_.uniform(0, 0.1))
            call.cancel()
    report(outcomes)
    assert eventually(lambda: metric(serving, "asrloop_slots_in_use") == 0)
    serving.wait(speech)


@short_and_long("times", 2, 5)
def test_a_client_that_is_killed(
    times: int, serving: Serving, speech: Speech, beckett_path: Path, report: Report
) -> None:
    program = (
        "import sys; from asrloop_client import AsrClient\n"
        "client = AsrClient(sys.argv[1]); print('on', flush=True)\n"
        "list(client.transcribe_many([sys.argv[2]] * 1000, concurrency=8))"
    )
    with callers(serving.address, speech, count=2) as outcomes:
        for _ in range(times):
            command = [sys.executable, "-c", program, serving.address, str(beckett_path)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
                assert client.stdout is not None
                assert client.stdout.readline() == b"on\n"
                time.sleep(0.3)
                client.kill()
    report(outcomes)
    assert eventually(lambda: metric(serving, "asrloop_slots_in_use") == 0)
    serving.wait(speech)


@short_and_long("seconds", 3, 10)
def test_a_client_that_reads_slowly(seconds: int, serving: Serving, speech: Speech, report: Report) -> None:
    head = (
        "POST /v2/models/asr_file/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: 0\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(speech.file)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", serving.http), timeout=30) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.sendall(head.encode() + speech.file)
        with callers(serving.address, speech, count=4) as outcomes:
            answer = b""
            until = time.monotonic() + seconds
            while time.monotonic() < until or len(answer) < 12:
                answer += slow.recv(1)
                time.sleep(0.05)
    report(outcomes)
    assert set(outcomes.counts) == {"ok"}
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.slow
@short_and_long("total", 1_000, 50_000)
def test_memory_stays_flat(total: int, serving: Serving, speech: Speech, report: Report) -> None:
    """Resident memory of the engine's process between the first fifth of many short requests and the last."""
    process = model_processes(serving.server)["decoder_loop"]
    short = speech.samples[:8_000]
    # Memory of a slot is taken when it is first used, and high slots are used rarely: use all of them before looking.
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda _: speech.ask(serving.address), range(96)))
    outcomes, left, resident = Outcomes(), iter(range(total)), []
    lock = threading.Lock()

    def megabytes() -> float:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000

    with triton.InferenceServerClient(serving.address) as client:
        tensor = triton.InferInput("WAV", [1, short.size], "FP32")
        tensor.set_data_from_numpy(short[None])
        expected = client.infer("asr_ensemble", [tensor]).as_numpy("TRANSCRIPTS")[0, 0]
        assert expected

        def ask(_: int) -> None:
            while True:
                with lock:
                    number = next(left, None)
                    if number is not None and number % (total // 5) == 0:
                        resident.append(megabytes())
                if number is None:
                    return
                started = time.monotonic()
                text = client.infer("asr_ensemble", [tensor]).as_numpy("TRANSCRIPTS")[0, 0]
                outcomes.add("ok" if text == expected else "WRONG TEXT", time.monotonic() - started)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, range(16)))
    resident.append(megabytes())
    report(outcomes, " ".join(f"{value:.0f}" for value in resident) + " MB")
    assert outcomes.counts["ok"] == total
    if total >= 50_000:
        assert resident[-1] - resident[1] < 8.0
