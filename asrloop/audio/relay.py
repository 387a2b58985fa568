"""Sends the rest of a long file from the process that parses files to the one that recognises speech, block by block.

It goes through a local socket with a name that nobody can guess. The reader sets the pace, so neither process holds more than a
few blocks. Each message is samples, an error with its code, or the end with the seconds that are missing in the file and the number
of samples that were sent. A connection that ends without one of the last two means that the sending process ended.
"""

import os
import secrets
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import numpy as np

from asrloop.audio.pcm import LongAudio, Samples
from asrloop.errors import DecodeFailed, InvalidAudio, RequestError, error_of

ACCEPT_SECONDS = 10.0
"""Longest wait for the reader to connect. It does so at once, or never when its request was refused or ended before."""

STALL_SECONDS = 60.0
"""Longest wait for the sender's next block, and the sender's usual patience with its reader."""

_BLOCK = 16_000
_SAMPLES, _ERROR, _END = b"s", b"!", b"."
_OF_THE_END = struct.Struct("<dQ")
_HANDLE, _HANDLE_BYTES = frozenset("0123456789abcdef"), 16


class Outlet:
    """The sending side, in the process that parses. A reader finds it by its ``handle``."""

    def __init__(self, stall_seconds: float = STALL_SECONDS) -> None:
        """``stall_seconds`` is the longest wait for the reader to take a block: the reader may have to wait its turn first."""
        self._stall_seconds = stall_seconds
        self.handle = secrets.token_hex(_HANDLE_BYTES)
        self._listener = _socket()
        self._listener.bind(_address(self.handle))
        self._listener.listen(1)

    def send(self, blocks: Iterable[Samples], missing: Callable[[], float] = lambda: 0.0) -> None:
        """Send all ``blocks``, then what ``missing`` returns, or the RequestError that ends them. Return early when the reader is
        gone. An empty block tells the reader that the sender lives."""
        try:
            with self._listener:
                self._listener.settimeout(ACCEPT_SECONDS)
                connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(self._stall_seconds)
                if not _is_ours(connection):
                    return
                sent = 0
                try:
                    for block in blocks:
                        for start in range(0, block.size or 1, _BLOCK):
                            connection.sendall(_SAMPLES + block[start : start + _BLOCK].tobytes())
                        sent += block.size
                    connection.sendall(_END + _OF_THE_END.pack(missing(), sent))
                except RequestError as error:
                    connection.sendall(_ERROR + str(error).encode())
        except OSError:  # the reader is gone; the remaining blocks are not decoded
            return


def incoming(handle: str, head: Samples, seconds: float) -> LongAudio:
    """Return ``head``, f32 [N], 16 kHz, followed by the blocks of the outlet with this ``handle``; ``seconds`` is the whole length.

    Connects at once, and reads as the blocks are taken. Raises DecodeFailed when there is no such outlet, InvalidAudio for a
    ``handle`` that no outlet can have.
    """
    if len(handle) != 2 * _HANDLE_BYTES or not _HANDLE.issuperset(handle):
        raise InvalidAudio(
            f"REST is {handle!r:.40}: leave it out, or send the {2 * _HANDLE_BYTES} hexadecimal digits that audio_frontend gave"
        )
    connection = _socket()
    connection.settimeout(STALL_SECONDS)
    try:
        connection.connect(_address(handle))
        if not _is_ours(connection):
            raise OSError("it belongs to another user")
    except OSError as error:
        connection.close()
        raise DecodeFailed(f"the rest of the file cannot be read ({error}); send it again") from None

    def close() -> None:
        """Wake a reader on another thread. The socket itself is closed by its last owner."""
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    missing = [0.0]
    return LongAudio(_received(connection, head, missing.append), seconds, close, lambda: missing[-1])


def _received(connection: socket.socket, head: Samples, miss: Callable[[float], None]) -> Iterator[Samples]:
    for start in range(0, head.size, _BLOCK):
        yield head[start : start + _BLOCK]
    received = 0
    with connection:
        while True:
            try:
                message = connection.recv(1 + 4 * _BLOCK)
            except OSError as error:
                raise DecodeFailed(f"the rest of the file did not come ({error}); send it again") from None
            kind, content = message[:1], message[1:]
            if kind == _SAMPLES:
                if content:
                    received += len(content) // 4
                    yield np.frombuffer(content, np.float32)
            elif kind == _ERROR:
                raise error_of(content.decode())
            elif kind == _END:
                missing, sent = _OF_THE_END.unpack(content)
                if received != sent:
                    raise DecodeFailed(f"{received} of {sent} samples of the rest of the file came; send it again")
                miss(missing)
                return
            else:
                raise DecodeFailed("the process that parses files ended; send it again")


def _socket() -> socket.socket:
    """Open a socket that keeps messages whole and tells each side when the other is gone."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def _address(handle: str) -> str:
    return f"\0asrloop-{handle}"  # in the abstract namespace: no file, so nothing to clean up


def _is_ours(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return bool(user == os.getuid())
