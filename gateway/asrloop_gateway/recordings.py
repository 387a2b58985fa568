"""Decodes what a browser's MediaRecorder sends while it arrives, each recording in a process of its own: see `ffmpeg_worker`.

Bytes of strangers reach FFmpeg only there. One that crashes costs its socket alone.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import numpy as np
from asrloop_client.audio import HIGHEST_RATE, LOWEST_RATE

from asrloop_gateway import ffmpeg_worker as worker
from asrloop_gateway.errors import ApiError, bad_request, overloaded

DEMUXERS = {"webm": "matroska", "ogg": "ogg", "mp4": "mov"}
"""FFmpeg's names for the formats of MediaRecorder."""

PATIENCE_SECONDS = 60.0
"""Longest time in which a process may take no bytes, or, at the end, say nothing. One that computes ends by its processor time."""
_CHECK_SECONDS = 0.1
_PIECE = 16_384
_MOST_CHANNELS = 8
_KEPT = ("PATH", "LD_LIBRARY_PATH")
"""Environment variables that the processes get. Others may hold secrets, such as API keys."""


class Recordings:
    """Starts a process for each recording. Belongs to one asyncio loop."""

    def __init__(self) -> None:
        self._numbers = count()
        self._program: subprocess.Popen[bytes] | None = None
        """The program that forks them. The first recording starts it."""
        self._control: socket.socket | None = None
        atexit.register(self._end)

    @asynccontextmanager
    async def decoding(self, kind: str) -> AsyncIterator[Decoding]:
        """Decode a recording of the format `kind`, a key of DEMUXERS. Raises ApiError."""
        if importlib.util.find_spec("av") is None:
            raise bad_request(
                "not_supported", f"The format {kind} needs PyAV, which is not installed. Send PCM.", "format"
            )
        ours, theirs = zip(socket.socketpair(), socket.socketpair(), strict=True)
        for each in ours:
            each.setblocking(False)
        number, decoding = next(self._numbers), Decoding(*ours, kind)
        start = worker.COMMAND.pack(worker.LIVE, number, DEMUXERS[kind].encode())
        try:
            self._tell(start, [each.fileno() for each in theirs])
            for each in theirs:
                each.close()
            yield decoding
        finally:
            for each in (*ours, *theirs):
                each.close()
            if self._control is not None:
                with suppress(OSError):
                    self._control.send(worker.COMMAND.pack(worker.STOP, number, b""))

    def _tell(self, message: bytes, descriptors: list[int]) -> None:
        """Send a command, at once. A program that takes none, or was ended by somebody else, is started again."""
        try:
            if self._control is not None:
                socket.send_fds(self._control, [message], descriptors)
                return
        except OSError:
            self._end()
        socket.send_fds(self._start(), [message], descriptors)

    def _start(self) -> socket.socket:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        spec = importlib.util.find_spec("av")
        (package,) = (spec and spec.submodule_search_locations) or ("",)
        with theirs:
            self._program = subprocess.Popen(
                [sys.executable, "-I", worker.__file__, str(Path(package).parent)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                cwd="/",
            )
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._program is not None:
            self._program.kill()
            self._program.wait()
        self._control = self._program = None


class Decoding:
    """A recording that is decoded while it arrives."""

    def __init__(self, into: socket.socket, out: socket.socket, kind: str) -> None:
        self._into, self._out, self._kind = into, out, kind
        self._channels = 1
        self._waits_since = float("inf")
        self.missing = 0.0
        """Seconds that could not be decoded; known at the end."""

    async def feed(self, content: bytes) -> None:
        """Take the next bytes; wait until there is room for them. Raises ApiError 503 when there is none for too long."""
        loop = asyncio.get_running_loop()
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, and its messages say why
            for start in range(0, len(content), _PIECE):
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        await loop.sock_sendall(self._into, content[start : start + _PIECE])
                except TimeoutError:
                    raise self._hangs() from None

    def end(self) -> None:
        """Take no more bytes."""
        with suppress(OSError):
            self._into.shutdown(socket.SHUT_WR)

    async def watch(self) -> None:
        """Never return. Raises ApiError 503 when nothing is said for too long: call it when no more bytes come."""
        began = time.monotonic()
        while time.monotonic() - max(began, self._waits_since) < PATIENCE_SECONDS:
            await asyncio.sleep(_CHECK_SECONDS)
        raise self._hangs()

    async def begun(self) -> int:
        """Return the sample rate in Hz when it is known. Raises ApiError."""
        await self._message()
        kind, content = await self._message()
        if kind != worker.FORMAT:
            raise self._unreadable("it has no sound")
        rate: int
        rate, self._channels, _ = worker.SOUND.unpack(content)
        if not (LOWEST_RATE <= rate <= HIGHEST_RATE and 1 <= self._channels <= _MOST_CHANNELS):
            raise self._unreadable(
                f"{rate} Hz, {self._channels} channels: the limits are {LOWEST_RATE}..{HIGHEST_RATE} Hz and {_MOST_CHANNELS}"
            )
        return rate

    async def pcm(self) -> AsyncIterator[bytes]:
        """Yield 16-bit PCM, mono, until the recording ends. Raises ApiError."""
        while True:
            kind, content = await self._message()
            if kind == worker.END:
                (self.missing,) = struct.unpack("<d", content)
                return
            samples = np.frombuffer(content, np.float32)
            mono = np.nan_to_num(samples.reshape(-1, self._channels).mean(axis=1))
            yield (mono.clip(-1, 1) * 32767).astype("<i2").tobytes()

    async def _message(self) -> tuple[bytes, bytes]:
        self._waits_since = time.monotonic()
        try:
            kind, size = worker.HEAD.unpack(await self._exactly(worker.HEAD.size))
            content = await self._exactly(size) if size <= worker.MEMORY else b""
        except (asyncio.IncompleteReadError, ConnectionResetError):
            raise self._unreadable("it ends its decoder") from None
        finally:
            self._waits_since = float("inf")
        if kind == worker.REFUSED:
            raise self._unreadable(content.decode(errors="replace"))
        return kind, content

    async def _exactly(self, size: int) -> bytes:
        loop, content = asyncio.get_running_loop(), bytearray()
        while len(content) < size:
            if not (part := await loop.sock_recv(self._out, min(size - len(content), 1 << 18))):
                raise asyncio.IncompleteReadError(bytes(content), size)
            content += part
        return bytes(content)

    def _hangs(self) -> ApiError:
        return overloaded(f"The {self._kind} was not decoded for {PATIENCE_SECONDS:g} s. Try again later.")

    def _unreadable(self, why: str) -> ApiError:
        return bad_request(
            "invalid_audio",
            f"The {self._kind} cannot be decoded ({why}). Send what MediaRecorder makes, from its first bytes on, or PCM.",
            "format",
        )
