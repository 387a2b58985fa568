"""Runs in FastAPI's environment: the service that a user would otherwise write. POST /transcribe takes f32 samples, 16 kHz mono.

Requests run on the framework's thread pool; the two ONNX Runtime sessions are shared, each thread has its own K/V. With
several processes each has its own sessions, and all accept on one socket, as uvicorn's workers do.
"""

import os
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import Body, FastAPI  # type: ignore[import-not-found]
from fastapi.responses import PlainTextResponse  # type: ignore[import-not-found]

from asrloop.families import offline
from asrloop.families.moonshine.decoding import DECODER, ENCODER, Moonshine
from asrloop.onnx_files.sessions import open_graph


def main() -> None:
    """Serve on the loopback. Arguments: folder of the model, port, processes, threads of a session, longest audio in seconds."""
    directory, port, processes, threads = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    seconds = float(sys.argv[5])
    # With its protocol named: only then does asyncio switch Nagle's algorithm off, which would cost every answer 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(256)
    for _ in range(processes - 1):
        if os.fork() == 0:
            break
    files = {"encoder": ENCODER, "decoder": DECODER}
    graphs = {name: open_graph(directory / file, threads=threads) for name, file in files.items()}
    local = threading.local()
    app = FastAPI()

    @app.post("/transcribe", response_class=PlainTextResponse)  # type: ignore[untyped-decorator]
    def transcribe(audio: bytes = Body(media_type="application/octet-stream")) -> str:
        if not hasattr(local, "family"):
            local.family = Moonshine(directory, slots=1, max_audio_seconds=seconds, graphs=graphs)
        family: Moonshine = local.family
        (decoded,) = offline.decode(family, [family.encode(np.frombuffer(audio, np.float32))])
        return family.text(decoded.tokens)

    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_keep_alive=600)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
