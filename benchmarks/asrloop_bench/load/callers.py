"""A process of callers in a closed loop: turns of load come in as lines of JSON, the times of every request go out.

Run as a file by the Python of any commit's environment, so it imports nothing of this project but, for the way `client`, the
client that is installed there. Arguments: the way to ask, the server's address, an .npz file with clips f32 [N], 16 kHz.
"""

import json
import os
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


def serve(connect: Callable[[], Ask], clips: Mapping[str, Any]) -> None:
    """Take turns until standard input ends. ``connect`` is called once for every caller, outside of what is timed."""
    callers: list[Ask] = []
    for line in sys.stdin:
        turn = json.loads(line)
        try:
            while len(callers) < turn["callers"]:
                callers.append(connect())
            if turn["core"] is not None:
                os.sched_setaffinity(0, {turn["core"]})
            answer = run(callers[: turn["callers"]], clips, turn)
        except Exception as error:  # told to who drives us, who stops the run
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def run(callers: list[Ask], clips: Mapping[str, Any], turn: Mapping[str, Any]) -> dict[str, Any]:
    """Every caller sends one clip after another from ``start`` until ``until`` (monotonic clock), at least one.

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
        except Exception as error:  # told to who drives us, who stops the run
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=loop, args=pair) for pair in enumerate(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        return {"error": errors[0]}
    return {"requests": requests, "texts": {name: sorted(found) for name, found in texts.items()}}


def triton(endpoint: str, model: str = "asr_ensemble") -> Ask:
    """A connection of NVIDIA's own client; every output is asked for."""
    import tritonclient.grpc as grpc

    client = grpc.InferenceServerClient(endpoint, channel_args=LONG_MESSAGES)

    def ask(samples: Any) -> str:
        audio = grpc.InferInput("WAV", [1, len(samples)], "FP32")
        audio.set_data_from_numpy(samples[None])
        result = client.infer(model, [audio], client_timeout=REQUEST_SECONDS)
        return str(result.as_numpy("TRANSCRIPTS").ravel()[0].decode("utf-8"))

    return ask


def project_client(endpoint: str) -> Callable[[], Ask]:
    """One client of this project for all callers of the process, as its users have it."""
    from asrloop_client import AsrClient

    client = AsrClient(endpoint)
    return lambda: lambda samples: str(client.transcribe(samples).text)


def main() -> None:
    """Serve one of the two ways."""
    way, endpoint, path = sys.argv[1:]
    clips = dict(np.load(path))
    serve(project_client(endpoint) if way == "client" else lambda: triton(endpoint), clips)


if __name__ == "__main__":
    main()
