"""The peers as callers of the ladder."""

import http.client
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import soundfile

from asrloop import paths
from asrloop.audio import SAMPLE_RATE
from asrloop.config import Settings
from asrloop.cores import usable_cores
from asrloop.tritonserver.checks import free_ports
from asrloop.wheels import MOONSHINE_MODEL, moonshine_assets
from asrloop_bench.checkout import PREPARED, ROOT
from asrloop_bench.ladder.peers.environment import PeerError, python_of
from asrloop_bench.ladder.rungs import Caller
from asrloop_bench.method.clips import Clip

HERE = Path(__file__).resolve().parent
START_SECONDS = 60.0


@contextmanager
def vendor_runtime(scratch: Path) -> Iterator[Callable[[int], list[Caller]]]:
    """Callers of the vendor's Transcriber in a process of its own; it holds one utterance at a time, so callers queue.

    It reads the clips from WAV files in ``scratch``.
    """
    cache = paths.cache()
    model = moonshine_assets(cache) / MOONSHINE_MODEL
    command = [str(python_of("vendor_runtime", cache)), str(HERE / "vendor_worker.py"), str(model)]
    lock = threading.Lock()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:

        def transcribe(clip: Clip) -> str:
            path = scratch / f"{clip.name}.wav"
            if not path.is_file():
                soundfile.write(path, clip.samples, SAMPLE_RATE, subtype="FLOAT")
            with lock:
                if process.stdin is None or process.stdout is None:
                    raise AssertionError("started with pipes")
                print(path, file=process.stdin, flush=True)
                line = process.stdout.readline()
            if not line:
                raise PeerError(f"the vendor's runtime ended with code {process.wait()}")
            return str(json.loads(line))

        try:
            yield lambda count: [transcribe] * count
        finally:
            process.kill()


@contextmanager
def fastapi(settings: Settings) -> Iterator[Callable[[int], list[Caller]]]:
    """Callers of the FastAPI service, each with a connection that it keeps."""
    (port,) = free_ports(1)
    threads = settings.engine.decoder_threads or usable_cores()
    python = python_of("fastapi", paths.cache())
    command = [str(python), str(HERE / "fastapi_service.py"), str(PREPARED), str(port), str(threads)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*command, str(settings.audio.max_seconds)], env=environment) as process:
        try:
            _wait(port, process)
            yield lambda count: [_http_caller(port) for _ in range(count)]
        finally:
            process.kill()


def _http_caller(port: int) -> Caller:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def transcribe(clip: Clip) -> str:
        connection.request("POST", "/transcribe", clip.samples.tobytes(), {"Content-Type": "application/octet-stream"})
        response = connection.getresponse()
        body = response.read().decode("utf-8")
        if response.status != http.client.OK:
            raise PeerError(f"the FastAPI service answered {response.status}: {body[:200]}")
        return body

    return transcribe


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise PeerError(f"the FastAPI service ended with code {process.returncode} at its start")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/openapi.json")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise PeerError(f"the FastAPI service was not ready after {START_SECONDS:g} s")
