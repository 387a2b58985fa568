"""What callers are told when something fails, in the shape of OpenAI's API. Says nothing of the servers behind."""

from __future__ import annotations

import logging
from typing import Any

from asrloop_client import (
    AsrError,
    ClientClosed,
    DeadlineExceeded,
    InvalidAudio,
    ModelNotReady,
    Overloaded,
    PoolExhausted,
    ServerGone,
)
from starlette.responses import JSONResponse

LOG = logging.getLogger("asrloop_gateway")
RETRY_SECONDS = 2
"""Told to callers who may try again at once."""

_CLOSE_CODES = {400: 1008, 401: 1008, 403: 1008, 408: 1008, 413: 1009, 429: 1013, 503: 1013}


class ApiError(Exception):
    """An error for the caller: HTTP status, stable code, message, and after how many seconds another try makes sense."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it."""
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def close_code(self) -> int:
        """For a WebSocket (RFC 6455, 7.4.1)."""
        return _CLOSE_CODES.get(self.status, 1011)

    def response(self) -> JSONResponse:
        """As an HTTP response."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def bad_request(code: str, message: str, param: str | None = None) -> ApiError:
    """A request that cannot be answered as it is."""
    return ApiError(400, code, message, param=param)


def closing() -> ApiError:
    """The gateway stops."""
    return ApiError(
        503, "closing", "the gateway is stopping: try again, another one may answer", retry_after=RETRY_SECONDS
    )


def overloaded(message: str) -> ApiError:
    """More than the gateway or its servers take at once."""
    return ApiError(503, "overloaded", message, retry_after=RETRY_SECONDS)


def unavailable() -> ApiError:
    """There is no server."""
    message = "no server can be reached now: try again later"
    return ApiError(503, "unavailable", message, retry_after=5 * RETRY_SECONDS)


def failed(name: str) -> ApiError:
    """What only the keeper can mend: the log has it under `name`."""
    return ApiError(500, "failed", f"the transcription failed: tell the keeper of this service, whose log has {name}")


def from_asr(error: AsrError, name: str) -> ApiError:
    """What an error of the servers behind means to the caller; what only their keeper can mend is logged under `name`."""
    if isinstance(error, InvalidAudio):
        return bad_request(error.code or "invalid_audio", error.detail or str(error), "file")
    if isinstance(error, Overloaded | PoolExhausted):
        return overloaded("all servers are busy: try again later")
    if isinstance(error, ClientClosed):
        return closing()
    if isinstance(error, ServerGone | ModelNotReady):
        return unavailable()
    if isinstance(error, DeadlineExceeded):
        message = "there was no answer in time: try again when there is less to do, or send less at once"
        return ApiError(503, "deadline", message, retry_after=5 * RETRY_SECONDS)
    LOG.error("%s: %s", name, error)
    return failed(name)
