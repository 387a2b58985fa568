"""Runs in FastAPI's environment: the service that a user would otherwise write. POST /transcribe takes f32 samples, 16 kHz mono.

Requests run on the framework's thread pool; the two ONNX Runtime sessions are shared, each thread has its own K/V.
"""

import sys
import threading
from pathlib import Path

import numpy as np
import uvicorn  # type: ignore[import-not-found]
from fastapi import Body, FastAPI  # type: ignore[import-not-found]
from fastapi.responses import PlainTextResponse  # type: ignore[import-not-found]

from asrloop.families import offline
from asrloop.families.graphs import open_graph
from asrloop.families.moonshine.decoding import DECODER, ENCODER, Moonshine


def main() -> None:
    """Serve on the loopback. Arguments: folder of the model, port, threads of a session, longest audio in seconds."""
    directory, port, threads, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
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

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, timeout_keep_alive=600)


if __name__ == "__main__":
    main()
