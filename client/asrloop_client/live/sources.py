"""Sources of live audio: a file played at its own speed, or PCM from standard input.

Both end within a tenth of a second after `stop` is set.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from asrloop_client.audio import from_int16
from asrloop_client.errors import InvalidAudio, UnreadableFile
from asrloop_client.live.mixing import Mixer

_SECONDS = 0.1
"""Length of a chunk, which is sent when its last sample is due."""


def played(
    path: str, speed: float, stop: threading.Event, warn: Callable[[str], None] = lambda _: None
) -> tuple[int, Iterator[npt.NDArray[np.float32]]]:
    """Return the rate of a file and its chunks float32 [N], mono, `speed` times as fast. Raises UnreadableFile, InvalidAudio.

    `warn` is told of a file that ends before its time.
    """
    rate, blocks = _opened(path, warn)

    def chunks() -> Iterator[npt.NDArray[np.float32]]:
        began, sent, mixed = time.monotonic(), 0, Mixer(rate)
        for block in blocks:
            sent += len(block)
            if stop.wait(max(0.0, began + sent / rate / speed - time.monotonic())):
                return
            yield mixed(block)

    return rate, chunks()


def recorded(rate: int, stop: threading.Event) -> Iterator[bytes]:
    """Yield 16-bit mono PCM from standard input as it comes, until its end."""
    # By its number: a thread that waits in `sys.stdin` would hold a lock that the interpreter wants when it ends.
    descriptor, left = sys.stdin.fileno(), b""
    while not stop.is_set():
        if select.select([descriptor], [], [], _SECONDS)[0]:
            read = os.read(descriptor, 2 * max(1, int(rate * _SECONDS)))
            if not read:
                return
            left += read
            whole = len(left) // 2 * 2
            yield left[:whole]
            left = left[whole:]


def _opened(path: str, warn: Callable[[str], None]) -> tuple[int, Iterator[Any]]:
    """Return the rate of a file and its blocks [N, channels], floats in -1..1."""
    try:
        import soundfile
    except ImportError:
        return _opened_wav(path)

    class Forward(soundfile.SoundFile):  # type: ignore[misc]  # it has no types
        """Is read from start to end: soundfile would seek, which fails in FLAC of unknown length and in FLAC that is cut."""

        def seekable(self) -> bool:
            return False

    try:
        file = Forward(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise UnreadableFile(
            f"{path} cannot be played: {error}. Give a WAV, FLAC, OGG, MP3 or AIFF file, such as `ffmpeg -i {path} out.wav` makes."
        ) from None
    size = max(1, int(file.samplerate * _SECONDS))

    def blocks() -> Iterator[Any]:
        try:
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                yield block
        except soundfile.LibsndfileError as error:
            warn(f"{path} is cut short or damaged, and was played up to there: {error}")

    return file.samplerate, blocks()


def _opened_wav(path: str) -> tuple[int, Iterator[Any]]:
    try:
        file = wave.open(path, "rb")  # noqa: SIM115 - it is read later
    except (OSError, EOFError, wave.Error) as error:
        raise UnreadableFile(f"{path} cannot be played: {error}. Without soundfile only WAV files can.") from None
    if file.getsampwidth() != 2:
        raise InvalidAudio(
            f"{path} has {8 * file.getsampwidth()} bits a sample: only 16 can be played without soundfile"
        )
    rate, channels = file.getframerate(), file.getnchannels()

    def blocks() -> Iterator[Any]:
        while frames := file.readframes(max(1, int(rate * _SECONDS))):
            yield from_int16(np.frombuffer(frames, "<i2").reshape(-1, channels))

    return rate, blocks()
