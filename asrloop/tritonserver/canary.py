"""Checking a running server by asking for a transcript: Triton reports READY even for dead model processes."""

import io
import json
import re
import urllib.error
import urllib.request
import wave
from collections.abc import Mapping

import numpy as np

from asrloop.audio import SAMPLE_RATE

# Ignores proxies of the environment: these requests are for our own server.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_WORK = {
    "asr_ensemble": re.compile(r"^asrloop_steps_total (\S+)$", re.MULTILINE),
    "asr_file": re.compile(r'^nv_inference_request_success{[^}]*model="audio_frontend"[^}]*} (\S+)$', re.MULTILINE),
}
"""Counters that grow while a model's process works. Failures are left out: a request that its caller cancelled counts as one."""


class CanaryFailed(RuntimeError):
    """``model`` gave no transcript; the message says what happened."""

    def __init__(self, model: str, message: str) -> None:
        super().__init__(f"{model} {message}")
        self.model = model


def get(url: str, timeout: float) -> tuple[int, bytes]:
    """Return status and body of a GET request. Raises OSError."""
    return _ask(urllib.request.Request(url), timeout)  # noqa: S310 - an http address of our own server


def transcribe(http_endpoint: str, timeout: float) -> None:
    """Transcribe a short sound through asr_ensemble and asr_file, which use the processes of decoder_loop and audio_frontend.

    Raises CanaryFailed when an answer does not come within ``timeout`` s or is an error other than "too busy".
    """
    samples = sound()
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes((samples * 32767).astype("<i2").tobytes())
    tensor = {"name": "WAV", "shape": [1, samples.size], "datatype": "FP32", "data": samples.tolist()}
    _infer(http_endpoint, "asr_ensemble", json.dumps({"inputs": [tensor]}).encode(), {}, timeout)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}
    _infer(http_endpoint, "asr_file", file.getvalue(), headers, timeout)


def sound() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return 0.3 s of sound shaped like a syllable, f32 [N], 16 kHz, loud enough to pass the speech detector."""
    time = np.arange(round(0.3 * SAMPLE_RATE)) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * 140 * harmonic * time) / harmonic for harmonic in range(1, 12))
    return np.asarray(0.2 * voice * np.sin(np.pi * time / 0.3), np.float32)


def work_done(metrics_url: str, timeout: float = 2.0) -> Mapping[str, float]:
    """Return a work counter for each model; empty when the server does not answer within ``timeout`` s."""
    try:
        _, page = get(metrics_url, timeout)
    except OSError:
        return {}
    text = page.decode()
    return {model: sum(map(float, pattern.findall(text))) for model, pattern in _WORK.items()}


def _infer(endpoint: str, model: str, body: bytes, headers: Mapping[str, str], timeout: float) -> None:
    request = urllib.request.Request(f"http://{endpoint}/v2/models/{model}/infer", body, dict(headers))
    try:
        status, answer = _ask(request, timeout)
    except OSError as error:
        raise CanaryFailed(model, f"gave no answer within {timeout:g} s ({error})") from None
    if status != 200 and b"[overloaded]" not in answer:
        raise CanaryFailed(model, f"answered {status}: {answer[:200].decode(errors='replace')}")


def _ask(request: urllib.request.Request, timeout: float) -> tuple[int, bytes]:
    try:
        with _opener.open(request, timeout=timeout) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except ValueError as error:  # the response is not HTTP
        raise OSError(str(error)) from None
