"""Everything a call can fail with, and the one place where gRPC's errors become AsrErrors.

Where there is a builtin that a caller would expect (ValueError, TimeoutError, ...), the class subclasses it too. Messages end
with how to fix it.
"""

from __future__ import annotations

import re
from typing import ClassVar

import grpc


class AsrError(Exception):
    """Base of all errors of this package."""

    retryable: ClassVar[bool] = False
    """Whether a later attempt of the same call may succeed without the caller changing anything."""
    counts_against_server: ClassVar[bool] = False
    """Whether the circuit breaker of the endpoint counts it as a failure."""
    is_answer: ClassVar[bool] = False
    """Whether it shows that the server works; the breaker counts it as a success."""


class InvalidConfig(AsrError, ValueError):
    """A setting is out of range or contradicts another."""


class InvalidAudio(AsrError, ValueError):
    """The audio or a request parameter was refused; the same call will be refused again."""

    is_answer = True


class Overloaded(AsrError):
    """The server's queue is full."""

    retryable = True
    is_answer = True


class ServerGone(AsrError, ConnectionError):
    """The connection could not be made or broke during the call."""

    retryable = True
    counts_against_server = True


class ModelNotReady(AsrError):
    """The server answers but the model is missing, loading or stopping."""

    retryable = True
    counts_against_server = True


class DeadlineExceeded(AsrError, TimeoutError):
    """The call's deadline passed before the reply came."""

    counts_against_server = True


class PoolExhausted(AsrError, TimeoutError):
    """No channel came free within the acquire timeout."""


class CircuitOpen(AsrError, ConnectionError):
    """Every server has just failed several times and gets no calls for a while."""


class AccessDenied(AsrError, PermissionError):
    """The server wants a token header that was not sent or did not match."""

    is_answer = True


class Cancelled(AsrError):
    """The call was cancelled, here or by the server."""


class ServerFailure(AsrError):
    """The server failed while it worked on the request."""

    counts_against_server = True


class SharedMemoryFailed(AsrError, RuntimeError):
    """Shared memory was asked for and could not be used."""


class ClientClosed(AsrError, RuntimeError):
    """The client or its pool was closed."""


class ClientForked(AsrError, RuntimeError):
    """The client was made in another process."""


class UnknownRegion(SharedMemoryFailed):
    """The server forgot a shared memory region, as it does when it restarts; the client registers it again."""


# Triton reports its own conditions and gRPC its lost connections with the same code, UNAVAILABLE, and the
# Python binding does not say which side made the status. Only the text tells them apart.
_RESTRICTED = re.compile(r"protocol is restricted", re.IGNORECASE)
_TOO_LATE = re.compile(r"timeout (expired|passed)", re.IGNORECASE)
_OVERLOADED = re.compile(r"queue|inbox|overload", re.IGNORECASE)
_NOT_READY = re.compile(r"unknown model|no available versions|not ready|(has|is) stop", re.IGNORECASE)
_HANDSHAKE = re.compile(r"ssl|tls|handshake|certificate", re.IGNORECASE)
_UNKNOWN_REGION = re.compile(r"unable to find (system )?shared memory region", re.IGNORECASE)


def from_status(code: grpc.StatusCode, details: str, address: str) -> AsrError:
    """The error for a gRPC status: `details` is the server's or gRPC's own text, `address` the server's `host:port`."""
    said = f"{address}: {details or 'no details'}"
    if _RESTRICTED.search(details):
        return AccessDenied(f"{said}. Give the token the server was started with (`token` or `headers`).")
    if _UNKNOWN_REGION.search(details):
        return UnknownRegion(f"{said}. Use shared_memory=False, or a server on this machine.")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED or _TOO_LATE.search(details):
        return DeadlineExceeded(f"{said}. Raise `timeout`, send shorter audio, or look at the server's load.")
    if code is grpc.StatusCode.UNAVAILABLE:
        return _from_unavailable(details, said)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidAudio(f"{said}. Fix the audio or the parameters; a retry cannot help.")
    if code is grpc.StatusCode.CANCELLED:
        return Cancelled(f"{said}. The call was cancelled before its reply.")
    if code is grpc.StatusCode.NOT_FOUND:
        return ModelNotReady(f"{said}. Check `model` and what the server has loaded (`asr-client health`).")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return AccessDenied(f"{said}. Give the token the server was started with (`token` or `headers`).")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return InvalidAudio(f"{said}. The message is over gRPC's size limit; send shorter audio.")
    return ServerFailure(f"{said} ({code.name}). Look at the server's log.")


def _from_unavailable(details: str, said: str) -> AsrError:
    if details.startswith("failed to connect") or "Socket closed" in details:
        if _HANDSHAKE.search(details):
            return ServerGone(f"{said}. Check `tls`: the certificates, and that the server speaks TLS at this port.")
        return ServerGone(f"{said}. Check the address and that the server runs; the client reconnects by itself.")
    if _OVERLOADED.search(details):
        return Overloaded(f"{said}. Send fewer requests at once, or add a server.")
    if _NOT_READY.search(details):
        return ModelNotReady(f"{said}. Wait until the model is loaded, or look at the server's log.")
    return ServerGone(f"{said}. The connection was lost; the client reconnects by itself.")
