"""The errors of a call, and how gRPC statuses become them.

The type follows from the code in brackets that starts the messages of asrloop's servers, or else from the gRPC status; never
from the words. Many also subclass the builtin that a caller would expect (ValueError, TimeoutError, ...).
"""

from __future__ import annotations

import re
from typing import ClassVar

import grpc


class AsrError(Exception):
    """Base of all errors of this package."""

    retryable: ClassVar[bool] = False
    """True when another attempt of the same call may succeed."""
    code: str | None = None
    """The server's code, such as `overloaded`, when its message began with one."""
    detail: str = ""
    """The server's text after the code."""


class InvalidConfig(AsrError, ValueError):
    """A setting or an argument is out of range or contradicts another."""


class InvalidAudio(AsrError, ValueError):
    """The audio or the request was refused; the same call will be refused again."""


class UnreadableFile(InvalidAudio, OSError):
    """A file could not be read."""


class InvalidOption(AsrError, ValueError):
    """A request parameter is unknown, or the served model cannot honour its value."""


class Overloaded(AsrError):
    """The server, or a proxy before it, has too much to do."""

    retryable = True


class ServerGone(AsrError, ConnectionError):
    """The connection failed or broke, or the server is closing or no longer answers."""

    retryable = True
    had_request = False
    """True when the connection broke while the server had the request."""


class ServersDied(AsrError):
    """Two servers died while they had this request, or one did twice."""

    code = "servers_died"


class ModelNotReady(AsrError):
    """The server answers but does not have the model."""


class DeadlineExceeded(AsrError, TimeoutError):
    """The call's deadline passed before the reply came."""


class PoolExhausted(AsrError, TimeoutError):
    """No channel came free within the acquire timeout; only with `fail_fast`, and for live audio."""


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


_BY_CODE: dict[str | None, type[AsrError]] = {
    "invalid_audio": InvalidAudio,
    "too_long": InvalidAudio,
    "bad_sequence": InvalidAudio,
    "invalid_option": InvalidOption,
    "overloaded": Overloaded,
    "deadline": DeadlineExceeded,
    "cancelled": Cancelled,
    "failed": ServerFailure,
    "closing": ServerGone,
}
_BY_STATUS: dict[grpc.StatusCode, type[AsrError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidAudio,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.UNAVAILABLE: ServerGone,
    grpc.StatusCode.NOT_FOUND: ModelNotReady,
}
_FIXES: dict[type[AsrError], str] = {
    InvalidAudio: "Fix the audio or the parameters; a retry cannot help.",
    InvalidOption: "Fix the parameter; a retry cannot help.",
    Overloaded: "Send fewer requests at once, or add a server.",
    DeadlineExceeded: "Raise `timeout`, send shorter audio, or look at the server's load.",
    Cancelled: "The call was cancelled before its reply.",
    AccessDenied: "Give the token the server was started with (`token` or `headers`).",
    ServerGone: "Check the address, `tls`, and that the server runs; the client reconnects by itself.",
    ModelNotReady: "Check `model` and what the server has loaded (`asr-client health`).",
    ServerFailure: "Look at the server's log.",
}
# Triton puts the ensemble that a message comes from in front of it.
_ENSEMBLE = r"(?:in ensemble '[^']*', )*"
_CODE = re.compile(_ENSEMBLE + r"\[([a-z_]+)\]")
# Triton's own words for a model whose process died or hangs, a fixed text of its Python backend with a status that says nothing.
_PROCESS_GONE = re.compile(_ENSEMBLE + r"Stub process ('[^']*' )?is not healthy")
# Triton answers UNAVAILABLE where a token is missing, too, and names the header that it wants, a fixed name of its protocol.
_TOKEN_HEADER = "triton-grpc-protocol-"  # noqa: S105 - a header's name


def from_status(status: grpc.StatusCode, details: str, address: str) -> AsrError:
    """Return the error for a gRPC status: `details` is the server's or gRPC's text, `address` the server's `host:port`."""
    found = _CODE.match(details)
    code = found[1] if found else None
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, ServerFailure)
    if code is None and status is grpc.StatusCode.UNAVAILABLE and _TOKEN_HEADER in details:
        kind = AccessDenied
    process_gone = _PROCESS_GONE.match(details) is not None
    if process_gone:
        kind = ServerGone
    restarts = code == "closing" or process_gone
    fix = "The server is closing or restarting; the client reconnects by itself." if restarts else _FIXES[kind]
    status_name = f" ({status.name})" if kind is ServerFailure else ""
    error = kind(f"{address}: {(details or 'no details').rstrip('.')}{status_name}. {fix}")
    error.code, error.detail = code, details[found.end() :].strip() if found else ""
    return error


def require(holds: bool, message: str) -> None:
    """Raise InvalidConfig with `message` unless `holds`."""
    if not holds:
        raise InvalidConfig(message)
