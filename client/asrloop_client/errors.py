"""Everything a call can fail with, and the one place where gRPC's statuses become AsrErrors.

An error's type follows from the code in brackets that asrloop's servers begin their messages with, and else from the gRPC
status; never from the words. Where there is a builtin that a caller would expect (ValueError, TimeoutError, ...), the class
subclasses it too.
"""

from __future__ import annotations

import concurrent.futures
import re
from typing import ClassVar, TypeVar

import grpc

T = TypeVar("T")


class AsrError(Exception):
    """Base of all errors of this package."""

    retryable: ClassVar[bool] = False
    """Whether another attempt of the same call may succeed without the caller changing anything."""

    code: str | None = None
    """The server's code, such as `overloaded`, when its message began with one."""

    detail: str = ""
    """What the server said after the code."""


class InvalidConfig(AsrError, ValueError):
    """A setting or an argument is out of range or contradicts another."""


class InvalidAudio(AsrError, ValueError):
    """The audio or a request parameter was refused; the same call will be refused again."""


class UnreadableFile(InvalidAudio, OSError):
    """A file could not be read."""


class Overloaded(AsrError):
    """The server, or a proxy before it, has too much to do."""

    retryable = True


class ServerGone(AsrError, ConnectionError):
    """The connection could not be made or broke during the call, or the server is closing, or it no longer answers."""

    retryable = True


class ModelNotReady(AsrError):
    """The server answers but does not have the model."""


class DeadlineExceeded(AsrError, TimeoutError):
    """The call's deadline passed before the reply came."""


class PoolExhausted(AsrError, TimeoutError):
    """No channel came free within the acquire timeout; only with `fail_fast`."""


class AccessDenied(AsrError, PermissionError):
    """The server wants a token header that was not sent or did not match."""


class Cancelled(AsrError):
    """The call was cancelled, here or by the server."""


class ServerFailure(AsrError):
    """The server failed while it worked on the request."""


class ClientClosed(AsrError, RuntimeError):
    """The client was closed."""


class ClientForked(AsrError, RuntimeError):
    """The client was made in another process."""


_AUDIO = (InvalidAudio, "Fix the audio or the parameters; a retry cannot help.")
_BUSY = (Overloaded, "Send fewer requests at once, or add a server.")
_LATE = (DeadlineExceeded, "Raise `timeout`, send shorter audio, or look at the server's load.")
_FAILED = (ServerFailure, "Look at the server's log.")
_CANCELLED = (Cancelled, "The call was cancelled before its reply.")
_DENIED = (AccessDenied, "Give the token the server was started with (`token` or `headers`).")
_GONE = (ServerGone, "Check the address, `tls`, and that the server runs; the client reconnects by itself.")
_NO_MODEL = (ModelNotReady, "Check `model` and what the server has loaded (`asr-client health`).")

_BY_CODE: dict[str, tuple[type[AsrError], str]] = {
    "invalid_audio": _AUDIO,
    "too_long": _AUDIO,
    "bad_sequence": _AUDIO,
    "overloaded": _BUSY,
    "deadline": _LATE,
    "cancelled": _CANCELLED,
    "failed": _FAILED,
    "closing": (ServerGone, "The server is closing or restarts; the client goes on by itself."),
}
_BY_STATUS: dict[grpc.StatusCode, tuple[type[AsrError], str]] = {
    grpc.StatusCode.INVALID_ARGUMENT: _AUDIO,
    grpc.StatusCode.RESOURCE_EXHAUSTED: _BUSY,
    grpc.StatusCode.DEADLINE_EXCEEDED: _LATE,
    grpc.StatusCode.CANCELLED: _CANCELLED,
    grpc.StatusCode.UNAUTHENTICATED: _DENIED,
    grpc.StatusCode.PERMISSION_DENIED: _DENIED,
    grpc.StatusCode.UNAVAILABLE: _GONE,
    grpc.StatusCode.NOT_FOUND: _NO_MODEL,
}
# Triton names the step of an ensemble that a message comes from in front of it.
_CODE = re.compile(r"(?:in ensemble '[^']*', )*\[([a-z_]+)\]")
# Triton answers UNAVAILABLE where a token is missing, too; what it names then is the header it wants, a fixed name of its protocol.
_TOKEN_HEADER = "triton-grpc-protocol-"  # noqa: S105 - a header's name


def from_status(status: grpc.StatusCode, details: str, address: str) -> AsrError:
    """The error for a gRPC status: `details` is the server's or gRPC's own text, `address` the server's `host:port`."""
    found = _CODE.match(details)
    code = found[1] if found else None
    kind, fix = _BY_CODE.get(code or "", _BY_STATUS.get(status, _FAILED))
    if code is None and status is grpc.StatusCode.UNAVAILABLE and _TOKEN_HEADER in details:
        kind, fix = _DENIED
    status_name = f" ({status.name})" if kind is ServerFailure else ""
    error = kind(f"{address}: {(details or 'no details').rstrip('.')}{status_name}. {fix}")
    error.code, error.detail = code, details[found.end() :].strip() if found else ""
    return error


def result_of(future: concurrent.futures.Future[T]) -> T:
    """Wait for it in a thread; Cancelled if it was cancelled. Whoever stops waiting cancels it."""
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise Cancelled("the call was cancelled by the caller.") from None
    except BaseException:
        future.cancel()
        raise
    finally:
        # An error must not keep itself alive through this frame.
        del future


def require(holds: bool, message: str) -> None:
    """Raise InvalidConfig with `message` unless `holds`."""
    if not holds:
        raise InvalidConfig(message)
