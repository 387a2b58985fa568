"""Reads files that libsndfile does not take, by FFmpeg, each in a process of its own: see :mod:`asrloop.audio.ffmpeg_worker`.

The first such file starts the program that forks these processes. One that crashes, hangs or takes too much costs its file alone.
"""

import atexit
import importlib.util
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from asrloop.audio import ffmpeg_worker as worker
from asrloop.audio.bitstream import Bitstream, Check, cut_short
from asrloop.audio.containers import Container, not_decoded
from asrloop.audio.length import Length
from asrloop.audio.mixing import Samples
from asrloop.errors import DecodeFailed, InvalidAudio

CHECK_SECONDS = 0.1
"""Between two checks while a process says nothing."""

PATIENCE_SECONDS = 60.0
"""Longest time in which a process that is read may say nothing. One that computes is ended by its processor time before."""

_INDICES = {"mov": b"moov", "caf": b"pakt"}
"""Without it nothing can be decoded of a container that has it at the end."""

ENDING_SECONDS = 0.2
"""Between the moment at which a program's sockets are closed and that at which it has ended."""

_COPIED = 64 << 20
"""Bytes that are copied between two checks."""

_KEPT = ("PATH", "LD_LIBRARY_PATH")
"""Environment variables that the program gets. Others may hold secrets."""


class _Ended(Exception):
    """The process ended before it said so."""


class FfmpegFile:
    """The sound of a bitstream. Raises InvalidAudio, and what ``check`` raises."""

    def __init__(self, stream: Bitstream, container: Container, check: Check, length: Length) -> None:
        """``length`` is told the processor time of the process."""
        self._stream, self._container, self._check, self._length = stream, container, check, length
        self._missing = 0.0
        self._process = self._started()
        try:
            sound = self._content_of(worker.FORMAT)
            self.rate, self.channels, self.frames = worker.SOUND.unpack(sound)
            """``frames``: samples per channel by the container's word; 0 where it does not say."""
        except BaseException:
            self._process.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.end()

    def read(self, size: int) -> tuple[Samples, bool]:
        """Return the next block, f32 [N, channels], and whether it is the last. The process says how long a block is."""
        content = self._content_of(worker.SAMPLES)
        if len(content) % (4 * self.channels):
            raise self._crash()
        block = np.frombuffer(content, np.float32).reshape(-1, self.channels)
        return block, not content

    def missing(self) -> tuple[float, float]:
        """Return the seconds that are missing, known when all is read, and how many of them are no loss."""
        return self._missing, 0.0

    def _started(self) -> "_Process":
        """Start a process. Where the program that forks was ended by somebody else, it is started again."""
        if importlib.util.find_spec("av") is None:
            raise InvalidAudio(
                f"AUDIO is {self._container.name}, which needs PyAV, and that is not installed here: install the package av, "
                f"or {self._container.as_wav}"
            )
        file = os.memfd_create("audio", os.MFD_CLOEXEC)
        try:
            for piece in self._stream.pieces:
                left = piece
                while len(left):
                    self._check()
                    left = left[os.write(file, left[:_COPIED]) :]
            try:
                return _start(file, self._container.demuxer, self._watch)
            except (_Ended, OSError):
                return _start(file, self._container.demuxer, self._watch)
        except (_Ended, OSError) as error:
            raise DecodeFailed(f"FFmpeg cannot be started ({error or 'it ended'}): send the file again") from None
        finally:
            os.close(file)

    def _watch(self, process: "_Process") -> None:
        """Raise what ends the work, if anything does."""
        self._length.elsewhere = process.processor_seconds()
        self._check()

    def _content_of(self, wanted: bytes) -> bytearray:
        """Return the content of the next message, which is of the kind ``wanted``; nothing behind the last."""
        try:
            kind, content = self._process.receive(self._watch)
            if kind == wanted:
                return content
            if kind == worker.END:
                (self._missing,) = struct.unpack("<d", content)
                return bytearray()
            if kind == worker.REFUSED:
                raise self._refusal(content.decode(errors="replace"))
        except TimeoutError:
            raise InvalidAudio(
                f"AUDIO is {self._container.name} whose decoder says nothing for {PATIENCE_SECONDS:g} s: {self._container.as_wav}"
            ) from None
        except (_Ended, OSError, struct.error):
            pass
        raise self._crash()

    def _crash(self) -> InvalidAudio:
        return InvalidAudio(
            f"AUDIO is {self._container.name} that ends its decoder: it is damaged, or takes over "
            f"{worker.MEMORY >> 20} MiB; {self._container.as_wav}"
        )

    def _refusal(self, reason: str) -> InvalidAudio:
        name, size = self._container.name, self._stream.size
        if reason == worker.NO_TRACK:
            return InvalidAudio(f"AUDIO is {name} without an audio track: send a recording with sound")
        if reason.startswith(worker.CODEC):
            return not_decoded(f"{name} with the codec {reason.removeprefix(worker.CODEC)}", self._container.suffix)
        index = _INDICES.get(self._container.demuxer)
        if index and not any(re.search(index, piece) for piece in self._stream.pieces):
            return cut_short(
                f"{name} of {size} bytes", f"without its index ({index.decode()}), which recorders write last"
            )
        return InvalidAudio(f"AUDIO is {name} of {size} bytes that cannot be read ({reason}): {self._container.as_wav}")


class _Process:
    """A process that decodes one file."""

    def __init__(self, messages: socket.socket, end: Callable[[], None]) -> None:
        self._messages, self._end = messages, end
        self._clock: int | None = None
        self._pidfd = -1
        messages.settimeout(CHECK_SECONDS)

    def begin(self, watch: Callable[["_Process"], None]) -> None:
        """Wait until it runs. Raises _Ended where it does not."""
        kind, content = self.receive(watch)
        if kind != worker.BEGUN:
            raise _Ended
        (pid,) = struct.unpack("<i", content)
        self._pidfd = os.pidfd_open(pid)
        self._clock = (~pid << 3) | 2  # Linux: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)

    def processor_seconds(self) -> float:
        """Return the processor time that it took so far; 0 where it has ended."""
        try:
            return time.clock_gettime(self._clock) if self._clock is not None else 0.0
        except OSError:
            return 0.0

    def receive(self, watch: Callable[["_Process"], None]) -> tuple[bytes, bytearray]:
        """Return kind and content of the next message; ``watch`` is called now and then. Raises _Ended, OSError, TimeoutError."""
        watch(self)
        until = time.monotonic() + PATIENCE_SECONDS
        kind, size = worker.HEAD.unpack(self._exactly(worker.HEAD.size, watch, until))
        if size > worker.MEMORY:
            raise _Ended
        return kind, self._exactly(size, watch, until)

    def end(self) -> None:
        """End it, if it has not ended. That the program ends it does not suffice: it may have ended before."""
        self._messages.close()
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1
        self._end()

    def _exactly(self, size: int, watch: Callable[["_Process"], None], until: float) -> bytearray:
        content = bytearray(size)
        left = memoryview(content)
        while left:
            try:
                read = self._messages.recv_into(left)
            except TimeoutError:
                watch(self)
                if time.monotonic() > until:
                    raise
                continue
            if not read:
                raise _Ended
            left = left[read:]
        return content


class _Program:
    """The program that forks a process for each file."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(PATIENCE_SECONDS)
        self._numbers = count()
        spec = importlib.util.find_spec("av")
        (package,) = (spec and spec.submodule_search_locations) or ("",)
        with theirs:
            self._program = subprocess.Popen(
                [_python(), "-I", worker.__file__, str(Path(package).parent)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                cwd="/",
            )

    def start(self, file: int, demuxer: str) -> _Process:
        """Start a process for ``file``, a descriptor. Raises OSError."""
        ours, theirs = socket.socketpair()
        number = next(self._numbers)
        with theirs:
            name = demuxer.encode()
            message = worker.COMMAND.pack(worker.START, number, name)
            try:
                socket.send_fds(self._control, [message], [file, theirs.fileno()])
            except OSError:
                ours.close()
                raise
        return _Process(ours, lambda: self._stop(number))

    def _stop(self, number: int) -> None:
        try:
            self._control.send(worker.COMMAND.pack(worker.STOP, number, b""))
        except OSError:  # it has ended, and this process's parent with it
            return

    def is_alive(self) -> bool:
        """Return False when it has ended, or does so now."""
        try:
            self._program.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            return True
        return False

    def close(self) -> None:
        """End the program and all its processes."""
        self._control.close()
        try:
            self._program.wait(5)
        except subprocess.TimeoutExpired:
            self._program.kill()
            self._program.wait()


_LOCK = threading.Lock()
_programs: list[_Program] = []
"""The one that runs, if one does."""


os.register_at_fork(after_in_child=_programs.clear)  # a copy of this process has a program of its own


def _start(file: int, demuxer: str, watch: Callable[[_Process], None]) -> _Process:
    """Start a process for ``file``, and the program before it where none runs. Raises _Ended and OSError."""
    with _LOCK:
        if not _programs:
            _programs.append(_Program())
        program = _programs[0]
    try:
        os.lseek(file, 0, os.SEEK_SET)
        process = program.start(file, demuxer)
        try:
            process.begin(watch)
        except BaseException:
            process.end()
            raise
    except (_Ended, OSError) as error:
        # One process that ended, or could not be forked, takes those of other files not along.
        if isinstance(error, _Ended) and program.is_alive():
            raise
        with _LOCK:
            if _programs == [program]:
                _programs.clear()
                program.close()
        raise
    return process


@atexit.register
def close() -> None:
    """End the program. The next file starts it again."""
    with _LOCK:
        while _programs:
            _programs.pop().close()


def _python() -> str:
    """Return the interpreter. In Triton's stub ``sys.executable`` may be the stub."""
    if Path(sys.executable).name.startswith("python"):
        return sys.executable
    return str(Path(sys.prefix, "bin", "python3"))
