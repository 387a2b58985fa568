"""A gRPC server in a process of its own that speaks as much of Triton's protocol as the client asks; parameters choose its answers.

Only for what a real server cannot be made to do: refuse by a chosen code, hang, count what arrives.
"""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Stub:
    """Keeps its port over restarts; `seen` says what arrived since the start."""

    def __init__(self, port: int, log: Path, places: int = 1000, closing: bool = False) -> None:
        self.port, self.address = port, f"127.0.0.1:{port}"
        self._log, self._arguments = log, (str(places), "closing" if closing else "open")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Stub":
        self._log.write_text("")
        command = [sys.executable, __file__, str(self.port), str(self._log), *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"on\n"
        self._process.stdout.close()
        return self

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def has_died(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def stop(self) -> None:
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def seen(self) -> Counter[str]:
        return Counter(self._log.read_text().split())

    def timeouts(self) -> list[int]:
        return [int(each.split("=")[1]) for each in self._log.read_text().split() if each.startswith("timeout=")]


class _Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, log: Path, places: int, closing: bool) -> None:
        self.closing, self.asked = closing, False
        self.log = log.open("a", buffering=1)
        self.places = threading.Semaphore(places)
        self.reported = threading.Condition()
        self.reports: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def say(self, word: str) -> None:
        self.log.write(f"{word}\n")

    def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return service_pb2.ServerLiveResponse(live=True)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.say("probe")
        if self.closing and self.asked:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        return service_pb2.ModelReadyResponse(ready=True)

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        given = {name: getattr(one, one.WhichOneof("parameter_choice")) for name, one in request.parameters.items()}
        if "cancel" in given:
            self.say(f"cancel={given['cancel']}")
            return service_pb2.ModelInferResponse()
        if "progress" in given:
            with self.reported:
                self.reports[given["progress"]] += 1
                self.reported.notify_all()
            return reply(request, TRANSCRIPTS=string("hello"), PROGRESS=struct.pack("<2f", 1.0, 2.0))
        self.say("infer")
        if self.closing:
            self.asked = True
            context.abort(grpc.StatusCode.UNAVAILABLE, "in ensemble 'asr_ensemble', [closing] the engine closes")
        self.say(f"timeout={given['timeout']}")
        self.say(f"key={given['cancel_key']}")
        for name in ("language", "task", "prompt", "word_times", "key_terms", "key_terms_boost"):
            if name in given:
                self.say(f"{name}={given[name]}")
        if given.get("refuse") in given:
            refused = f"in ensemble 'asr_file', [invalid_option] {given['refuse']} is not served"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, refused)
        for name, value in context.invocation_metadata():
            if name in ("x-test", "traceparent"):
                self.say(f"header={value}")
        if "die_ms" in given:
            time.sleep(given["die_ms"] / 1000)
            os._exit(1)
        times = given.get("times", 1 << 30)
        self.calls[request.id] += 1
        if "status" in given and self.calls[request.id] <= times:
            context.abort(getattr(grpc.StatusCode, given["status"]), given.get("message", "no words"))
        if not self.places.acquire(blocking=False):
            context.abort(grpc.StatusCode.UNAVAILABLE, "in ensemble 'asr_ensemble', [overloaded] the inbox is full (4)")
        if "reports" in given:
            with self.reported:
                self.reported.wait_for(lambda: self.reports[given["cancel_key"]] >= given["reports"], 60)
        time.sleep(given.get("sleep_ms", 0) / 1000)
        self.places.release()
        return reply(request, TRANSCRIPTS=string(given.get("text", "hello there")), TOKENS=b"\7\0\0\0")


def reply(request: Any, **outputs: bytes) -> Any:
    response = service_pb2.ModelInferResponse(model_name=request.model_name)
    for name, raw in outputs.items():
        response.outputs.add(name=name)
        response.raw_output_contents.append(raw)
    return response


def string(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode()


if __name__ == "__main__":
    server = grpc.server(
        ThreadPoolExecutor(100), options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        _Server(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "closing"), server
    )
    assert server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}") == int(sys.argv[1])
    server.start()
    print("on", flush=True)
    server.wait_for_termination()
