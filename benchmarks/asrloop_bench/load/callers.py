"""A process of callers in a closed loop: turns of load come in as lines of JSON, the times of every request go out.

Run as a file by the Python of any commit's environment, or of a peer's, so it imports nothing of this project but, for the way
`client`, the client that is installed there. Argument: an .npz file with clips f32 [N], 16 kHz.
"""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

REQUEST_SECONDS = 120.0
LONG_MESSAGES = [
    ("grpc.use_local_subchannel_pool", 1),  # a TCP connection for every caller
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]

Ask = Callable[[Any], str]
"""Sends one clip and returns its text."""

Ways = Mapping[str, Callable[..., Callable[[], Ask]]]
"""By name: takes the rest of a turn's ``way``, such as an address, and returns the function that makes a caller."""


def serve(ways: Ways, clips: Mapping[str, Any]) -> None:
    """Take turns until standard input ends. Callers are made once for each way, outside of what is timed."""
    connects: dict[tuple[str, ...], Callable[[], Ask]] = {}
    made: dict[tuple[str, ...], list[Ask]] = {}
    for line in sys.stdin:
        turn = json.loads(line)
        try:
            way = tuple(turn["way"])
            if way not in connects:
                connects[way] = ways[way[0]](*way[1:])
            callers = made.setdefault(way, [])
            while len(callers) < turn["callers"]:
                callers.append(connects[way]())
            answer = run(callers[: turn["callers"]], clips, turn)
        except Exception as error:  # sent to the process that drives the load, which stops the run
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def run(callers: list[Ask], clips: Mapping[str, Any], turn: Mapping[str, Any]) -> dict[str, Any]:
    """Have every caller send one clip after another from ``start`` until ``until`` (monotonic clock), at least one.

    The ``k``-th caller begins with the clip ``first + k`` of ``order``. A request that runs at the end is waited for.
    """
    order = turn["order"]
    requests: list[tuple[int, str, float, float]] = []
    texts: dict[str, set[str]] = {}
    errors: list[str] = []

    def loop(number: int, ask: Ask) -> None:
        place = turn["first"] + number
        try:
            time.sleep(max(0.0, turn["start"] - time.monotonic()))
            while True:
                name = order[place % len(order)]
                began = time.monotonic()
                text = ask(clips[name])
                ended = time.monotonic()
                requests.append((turn["first"] + number, name, began, ended))
                texts.setdefault(name, set()).add(text)
                place += 1
                if ended >= turn["until"] or errors:
                    return
        except Exception as error:  # sent to the process that drives the load, which stops the run
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=loop, args=pair) for pair in enumerate(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        return {"error": errors[0]}
    return {"requests": requests, "texts": {name: sorted(found) for name, found in texts.items()}}


def triton(endpoint: str, model: str = "asr_ensemble") -> Callable[[], Ask]:
    """Make a connection of NVIDIA's own client for each caller; every output is asked for."""
    import tritonclient.grpc as grpc

    def connect() -> Ask:
        client = grpc.InferenceServerClient(endpoint, channel_args=LONG_MESSAGES)

        def ask(samples: Any) -> str:
            audio = grpc.InferInput("WAV", [1, len(samples)], "FP32")
            audio.set_data_from_numpy(samples[None])
            result = client.infer(model, [audio], client_timeout=REQUEST_SECONDS)
            return str(result.as_numpy("TRANSCRIPTS").ravel()[0].decode("utf-8"))

        return ask

    return connect


def project_client(endpoint: str) -> Callable[[], Ask]:
    """Make one client of this project for all callers of the process, as its users have it."""
    from asrloop_client import AsrClient

    client = AsrClient(endpoint)
    return lambda: lambda samples: str(client.transcribe(samples).text)


def http_service(port: str) -> Callable[[], Ask]:
    """Keep a connection for each caller to a service on this machine: samples f32 in, text out."""

    def connect() -> Ask:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=REQUEST_SECONDS)

        def ask(samples: Any) -> str:
            connection.request("POST", "/transcribe", samples.tobytes(), {"Content-Type": "application/octet-stream"})
            response = connection.getresponse()
            body = response.read().decode("utf-8")
            if response.status != http.client.OK:
                raise RuntimeError(f"the service answered {response.status}: {body[:200]}")
            return body

        return ask

    return connect


def vendor_runtime(directory: str) -> Callable[[], Ask]:
    """Open the vendor's Transcriber in this process: one, which takes one utterance at a time, so that callers queue.

    Every clip is one utterance, and only its text is asked for, as from the others. It takes a list, which is made of
    each clip once; its own conversion of that is timed.
    """
    from moonshine_voice import ModelArch, Transcriber  # type: ignore[import-not-found]

    options = {"vad_threshold": "0.0", "identify_speakers": "false", "return_audio_data": "false"}
    transcriber = Transcriber(directory, ModelArch.TINY, options=options).__enter__()  # until the process ends
    lists: dict[int, list[float]] = {}
    lock = threading.Lock()

    def ask(samples: Any) -> str:
        with lock:
            if id(samples) not in lists:
                lists[id(samples)] = samples.tolist()
            transcript = transcriber.transcribe_without_streaming(lists[id(samples)])
        return " ".join(part.text.strip() for part in transcript.lines)

    return lambda: ask


WAYS: Ways = {"triton": triton, "client": project_client, "http": http_service, "vendor": vendor_runtime}

if __name__ == "__main__":
    serve(WAYS, dict(np.load(sys.argv[1])))
