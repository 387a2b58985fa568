"""Runs in faster-whisper's environment: the service that most users have. POST /transcribe takes f32 samples, 16 kHz mono.

As Speaches has it: one model with several workers, and requests on the framework's thread pool. With what makes it fastest: int8,
greedy, no times, no second try at a higher temperature.
"""

import sys

import numpy as np
import uvicorn
from fastapi import Body, FastAPI  # type: ignore[import-not-found]
from fastapi.responses import PlainTextResponse  # type: ignore[import-not-found]
from faster_whisper import WhisperModel  # type: ignore[import-not-found]


def main() -> None:
    """Serve on the loopback. Arguments: folder of the model, port, workers, threads of a worker."""
    port, workers, threads = map(int, sys.argv[2:5])
    model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=threads, num_workers=workers)
    app = FastAPI()

    @app.post("/transcribe", response_class=PlainTextResponse)  # type: ignore[untyped-decorator]
    def transcribe(audio: bytes = Body(media_type="application/octet-stream")) -> str:
        segments, _ = model.transcribe(
            np.frombuffer(audio, np.float32),
            language="en",
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
        )
        return "".join(segment.text for segment in segments).strip()

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False, timeout_keep_alive=600)


if __name__ == "__main__":
    main()
