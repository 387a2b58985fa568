"""Questions that only a model's own process can answer: Triton reports READY even for dead model processes."""

import http.client
import io
import json
import re
import select
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np

from asrloop.audio import SAMPLE_RATE

# Ignores proxies of the environment: these requests are for our own server.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

TRIES = 2
"""Connections on which a question is asked, the second when half of the time is over. Triton parses a stranger's form on the thread
of its connection (300 MB take 17 s), and every eighth connection is served by that thread."""


class CanaryFailed(RuntimeError):
    """``model`` gave no answer; the message says what happened."""

    def __init__(self, model: str, message: str) -> None:
        super().__init__(f"{model} {message}")
        self.model = model


class Question(NamedTuple):
    """A request that one model process answers, however busy the others are."""

    model: str
    process: str
    """Model whose process answers."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    says: bytes
    """What only an answer of the model has."""

    answers: re.Pattern[str]
    """Counters on /metrics of answers that the process gave to others; not of requests that it took or refused."""


def get(url: str, timeout: float) -> tuple[int, bytes]:
    """Return status and body of a GET request. Raises OSError."""
    try:
        with _opener.open(url, timeout=timeout) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except (ValueError, http.client.HTTPException) as error:  # the response is not HTTP
        raise OSError(str(error)) from None


def transcribe(http_endpoint: str, timeout: float) -> None:
    """Ask all questions. Raises CanaryFailed when one has no answer within ``timeout`` s."""
    for failure in failures(http_endpoint, timeout):
        raise failure


def failures(
    http_endpoint: str, timeout: float, on_answer: Callable[[], object] = lambda: None
) -> Collection[CanaryFailed]:
    """Ask all questions side by side, and return those without an answer within ``timeout`` s, or with a wrong one.

    ``on_answer`` is called as soon as one has its answer, while others wait for theirs.
    """
    asked = questions()

    def ask(question: Question) -> CanaryFailed | None:
        failure = _failure(http_endpoint, question, timeout)
        if failure is None:
            on_answer()
        return failure

    with ThreadPoolExecutor(len(asked)) as threads:
        return [failure for failure in threads.map(ask, asked) if failure is not None]


@cache
def questions() -> Collection[Question]:
    """Return a question for each model process: a short sound to transcribe, one to decode, and a chunk without a stream."""
    samples = sound()
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes((samples * 32767).astype("<i2").tobytes())
    tensor = {"name": "WAV", "shape": [1, samples.size], "datatype": "FP32", "data": samples.tolist()}
    raw = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}
    return (
        Question(
            "asr_ensemble", "decoder_loop", "infer", json.dumps({"inputs": [tensor]}).encode(), {}, b"TRANSCRIPTS",
            re.compile(r'^asrloop_requests_total{outcome="ok"} (\S+)$', re.MULTILINE),
        ),
        Question(
            "audio_frontend", "audio_frontend", "infer", file.getvalue(), raw, b"SAMPLES",
            # The model's own counter grows when it has taken a request, the ensemble's when it was answered.
            re.compile(r'^nv_inference_request_success{[^}]*model="asr_file"[^}]*} (\S+)$', re.MULTILINE),
        ),
        # Triton passes no sequence over HTTP, and no stream has the sequence 0.
        Question(
            "asr_stream", "asr_stream", "generate", b'{"WAV": [0.0]}', {}, b"[bad_sequence]",
            re.compile(r'^asrloop_(?:partials_total|finals_total|streams_total{outcome="ok"}) (\S+)$', re.MULTILINE),
        ),
    )  # fmt: skip


def sound() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return 0.3 s of sound shaped like a syllable, f32 [N], 16 kHz, loud enough to pass the speech detector."""
    time = np.arange(round(0.3 * SAMPLE_RATE)) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * 140 * harmonic * time) / harmonic for harmonic in range(1, 12))
    return np.asarray(0.2 * voice * np.sin(np.pi * time / 0.3), np.float32)


def answers(metrics_url: str, timeout: float = 2.0) -> Mapping[str, float]:
    """Return how many answers each model gave so far; empty when the server does not say within ``timeout`` s."""
    try:
        _, page = get(metrics_url, timeout)
    except OSError:
        return {}
    text = page.decode(errors="replace")
    return {question.model: sum(map(float, question.answers.findall(text))) for question in questions()}


def is_live(http_endpoint: str, timeout: float = 1.0) -> bool:
    """Return True when Triton itself answers on one of two connections, whatever its models do."""
    for _ in range(TRIES):
        try:
            return get(f"http://{http_endpoint}/v2/health/live", timeout)[0] == 200
        except OSError:
            continue
    return False


def _failure(endpoint: str, question: Question, timeout: float) -> CanaryFailed | None:
    try:
        status, answer = _answer(endpoint, question, timeout)
    except (OSError, http.client.HTTPException) as error:
        return CanaryFailed(question.model, f"gave no answer within {timeout:g} s ({error})")
    if question.says in answer:
        return None
    return CanaryFailed(question.model, f"answered {status}: {answer[:200].decode(errors='replace')}")


def _answer(endpoint: str, question: Question, timeout: float) -> tuple[int, bytes]:
    """Return status and body of the first answer. Raises OSError, HTTPException."""
    path, deadline = f"/v2/models/{question.model}/{question.path}", time.monotonic() + timeout
    connections: dict[int, http.client.HTTPConnection] = {}
    try:
        for number in range(TRIES):
            connection = http.client.HTTPConnection(endpoint, timeout=timeout)
            connections[number] = connection
            connection.request("POST", path, question.body, dict(question.headers))
            wait = (deadline - time.monotonic()) / (TRIES - number)
            ready, _, _ = select.select([each.sock for each in connections.values()], [], [], max(0.0, wait))
            for each in connections.values():
                if each.sock in ready:
                    with each.getresponse() as response:
                        return response.status, response.read()
        raise TimeoutError("timed out")
    finally:
        for connection in connections.values():
            connection.close()
