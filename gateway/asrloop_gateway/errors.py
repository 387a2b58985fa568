"""Errors that callers get, in the shape of OpenAI's API. They reveal nothing about the servers behind the gateway."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
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
    ServersDied,
)
from starlette.responses import JSONResponse

LOG = logging.getLogger("asrloop_gateway")
RETRY_SECONDS = 2
"""Retry-After, in seconds, of errors that soon pass."""

_CLOSE_CODES = {400: 1008, 401: 1008, 403: 1008, 408: 1008, 413: 1009, 429: 1013, 503: 1013}


class ApiError(Exception):
    """An error for the caller: HTTP status, stable code, message, and seconds to wait before a retry (None: do not retry)."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """JSON body in OpenAI's format."""
        kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def close_code(self) -> int:
        """Close code of a WebSocket (RFC 6455, 7.4.1)."""
        return _CLOSE_CODES.get(self.status, 1011)

    def response(self) -> JSONResponse:
        """Return the HTTP response."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def bad_request(code: str, message: str, param: str | None = None) -> ApiError:
    """Return the error for a request that must be changed before it can succeed."""
    return ApiError(400, code, message, param=param)


def closing() -> ApiError:
    """Return the error for a gateway that is stopping."""
    message = "The gateway is stopping. Try again: another one may answer."
    return ApiError(503, "closing", message, retry_after=RETRY_SECONDS)


def overloaded(message: str) -> ApiError:
    """Return the error for a gateway or servers at their limit."""
    return ApiError(503, "overloaded", message, retry_after=RETRY_SECONDS)


def unavailable() -> ApiError:
    """Return the error for when no server can be reached."""
    message = "No speech server can be reached. Try again later."
    return ApiError(503, "unavailable", message, retry_after=5 * RETRY_SECONDS)


def failed(name: str) -> ApiError:
    """Return the error for a failure that only the operator can fix; the log has its details under `name`."""
    return ApiError(500, "failed", f"The transcription failed. Give the operator this id: {name}.")


def from_asr(error: AsrError, name: str, fields: Mapping[str, str] | None = None) -> ApiError:
    """Translate an error of the servers for the caller. One that only the operator can fix is logged under `name`.

    `fields` are the caller's names of the servers' options, where they differ.
    """
    if error.code == "invalid_option":
        option = error.detail.split(" ", 1)[0]  # their messages begin with its name
        return bad_request(error.code, error.detail, (fields or {}).get(option, option))
    if isinstance(error, InvalidAudio):
        return bad_request(error.code or "invalid_audio", error.detail or str(error), "file")
    if isinstance(error, Overloaded | PoolExhausted):
        return overloaded("All servers are busy. Try again later.")
    if isinstance(error, ClientClosed):
        return closing()
    if isinstance(error, ServerGone):
        return unavailable()
    if isinstance(error, ModelNotReady):
        message = "No speech server has the model loaded. Try again later, or give another model."
        return ApiError(503, "unavailable", message, param="model", retry_after=5 * RETRY_SECONDS)
    if isinstance(error, DeadlineExceeded):
        message = "The servers did not answer in time. Try again later, or send shorter audio."
        return ApiError(503, "deadline", message, retry_after=5 * RETRY_SECONDS)
    LOG.error("%s: %s", name, error)
    if isinstance(error, ServersDied):
        # No 5xx: clients repeat those by themselves, and each time it would cost two servers.
        message = (
            "Two speech servers ended while they had this audio. Convert it to another format, or give the operator"
        )
        return ApiError(422, "servers_died", f"{message} this id: {name}.", param="file")
    return failed(name)
