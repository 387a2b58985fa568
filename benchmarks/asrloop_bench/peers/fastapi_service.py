"""Runs in FastAPI's environment: the service that a user would otherwise write. POST /transcribe takes f32 samples, 16 kHz mono.

Requests run on the framework's thread pool; the two ONNX Runtime sessions are shared, each thread has its own K/V.
"""

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn  # type: ignore[import-not-found]
from fastapi import Body, FastAPI  # type: ignore[import-not-found]
from fastapi.responses import PlainTextResponse  # type: ignore[import-not-found]

from asrloop.families.moonshine import Call, Moonshine
from asrloop.ort_session import open_session


def main() -> None:
    """Serve on the loopback. Arguments: model repository, port, threads of a session, longest audio in seconds."""
    repository, port, threads, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    directories = [repository / name / "1" for name in ("encoder", "decoder")]
    encoder, decoder = (_plain_run(directory / "model.onnx", threads) for directory in directories)
    local = threading.local()
    app = FastAPI()

    @app.post("/transcribe", response_class=PlainTextResponse)  # type: ignore[untyped-decorator]
    def transcribe(audio: bytes = Body(media_type="application/octet-stream")) -> str:
        if not hasattr(local, "family"):
            local.family = Moonshine(
                *directories, slots=1, max_audio_seconds=seconds, encoder_call=encoder, decoder_call=decoder
            )
        family: Moonshine = local.family
        family.admit(0, family.encode(np.frombuffer(audio, np.float32)))
        tokens: list[int] = []
        while True:
            (emission,) = family.step([0])
            tokens.extend(emission.tokens)
            if emission.done:
                return family.text(tokens)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, timeout_keep_alive=600)


def _plain_run(path: Path, threads: int) -> Call:
    session = open_session(path, threads=threads)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run


if __name__ == "__main__":
    main()
