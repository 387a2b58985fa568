"""Transcribes files in this process, many at a time, with the same engine as the server and no server."""

import queue
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from asrloop import audio
from asrloop.config import Settings
from asrloop.engine.engine import Engine
from asrloop.engine.outputs import Transcript
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.errors import RequestError
from asrloop.families import registry
from asrloop.speech.detector import open_detector
from asrloop.speech.gate import speech_gate

FILES_AT_ONCE = 16
LIMIT_SECONDS = 3600.0
"""Longest wait for the next file to be done."""

PROGRESS_SECONDS = 0.2
Progress = Callable[[float, float], None]
"""Told now and then: seconds of audio that are done, and that are known of."""


class Heard(NamedTuple):
    """What became of a file."""

    path: Path
    transcript: Transcript | None
    error: RequestError | OSError | None
    """Why there is none."""

    seconds: float
    """Of audio."""


class OfflineTranscriber:
    """The engine with a model of its own. Use as a context manager, or call :meth:`close`. One caller at a time."""

    def __init__(self, model: Path, settings: Settings) -> None:
        """``model`` is the folder of the prepared files, ``decoder_loop/1`` of a repository. Raises OSError and ValueError."""
        self._settings = settings
        self._family = registry.open_family(model, settings)
        detector = open_detector(model)
        self._engine = Engine(
            self._family,
            Scheduler(settings.engine.slots, FILES_AT_ONCE, LIMIT_SECONDS, registry.encoders(settings)),
            has_speech=speech_gate(detector, settings),
            cutting=registry.cutting(detector, registry.family_in(model), settings)._replace(most=FILES_AT_ONCE),
        )

    def transcribe(self, paths: Iterable[Path], progress: Progress | None = None) -> Iterator[Heard]:
        """What is heard in each file, in order. A file that cannot be read has its error, and the others go on.

        Raises TimeoutError when nothing is done for LIMIT_SECONDS.
        """
        answered: queue.SimpleQueue[int] = queue.SimpleQueue()
        running: dict[int, tuple[Path, Request]] = {}
        results: dict[int, Heard] = {}
        told, seconds = 0, 0.0

        def wait() -> None:
            nonlocal seconds
            until = time.monotonic() + LIMIT_SECONDS
            while True:
                far = [request.progress(self._family) for _, request in running.values()]
                if progress:
                    progress(seconds + sum(one.done for one in far), seconds + sum(one.known for one in far))
                try:
                    number = answered.get(timeout=PROGRESS_SECONDS)
                    break
                except queue.Empty:
                    if time.monotonic() > until:
                        raise TimeoutError(f"no file was done for {LIMIT_SECONDS:g} s; the engine hangs") from None
            results[number] = self._heard(*running.pop(number))
            seconds += results[number].seconds

        for number, path in enumerate(paths):
            if len(running) == FILES_AT_ONCE:
                wait()
            try:
                sound = audio.opened(path.read_bytes(), self._settings.audio.max_seconds)
                request = Request([sound], on_done=lambda _, number=number: answered.put(number))  # type: ignore[misc]  # its own number
                running[number] = path, request
                self._engine.submit(request)
            except (RequestError, OSError) as error:
                running.pop(number, None)
                results[number] = Heard(path, None, error, 0.0)
            while told in results:
                yield results.pop(told)
                told += 1
        while running:
            wait()
            while told in results:
                yield results.pop(told)
                told += 1

    def close(self) -> None:
        """End the engine's threads."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _heard(self, path: Path, request: Request) -> Heard:
        seconds = sum(recording.audio_seconds for recording in request.recordings)
        if request.error:
            return Heard(path, None, request.error, seconds)
        return Heard(path, request.transcripts(self._family)[0], None, seconds)
