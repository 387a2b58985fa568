"""Access control: API keys, allowed hosts and origins, rate limits. Knows nothing of audio."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, urlsplit

from starlette.requests import HTTPConnection

from asrloop_gateway.errors import ApiError, bad_request
from asrloop_gateway.rate import RateLimit
from asrloop_gateway.settings import LOOPBACK, Settings

_KEY_PROTOCOL = "openai-insecure-api-key."
"""Browsers cannot set headers on a WebSocket, so OpenAI's clients send the key as a subprotocol with this prefix."""


class Admission:
    """Checks each request and socket before any other work is done for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = [_digest(key.encode()) for key in settings.all_keys()]
        most = settings.most_requests_per_minute
        self._rate = None if most is None else RateLimit(most)
        self._sockets: Counter[str] = Counter()

    def admit(self, connection: HTTPConnection) -> str:
        """Return the caller's address, or an identifier of the API key where keys are set. Raises ApiError 400, 401, 403 or 429."""
        self._check_page(connection)
        address = connection.client.host if connection.client else "unknown"
        given = _key_of(connection) if self._keys else None
        digest = None if given is None else _digest(given.encode("latin-1"))  # restores the bytes that were sent
        # Compare with all keys, so that the time taken does not tell how close a guess was.
        if digest is not None and sum(hmac.compare_digest(digest, key) for key in self._keys):
            # Not by its address: strangers behind the same proxy have used that up, or others with good keys.
            name = digest.hex()[:16]
            self._count(f"key {name}")
            return name
        self._count(f"address {address}")
        if not self._keys:
            return address
        if given is None:
            raise ApiError(401, "missing_api_key", "API key missing. Send `Authorization: Bearer KEY`.")
        raise ApiError(401, "invalid_api_key", "Unknown API key. Ask the operator.")

    @contextmanager
    def socket(self, caller: str) -> Iterator[None]:
        """Count an open socket. Raises ApiError 429 at the limit for one caller, 503 at the limit for all."""
        if self._sockets[caller] >= self._settings.sockets_per_caller:
            message = f"You have {self._sockets[caller]} open sockets, which is the limit. Close one first."
            raise ApiError(429, "too_many_sockets", message, retry_after=10)
        if self._sockets.total() >= self._settings.sockets:
            message = f"{self._sockets.total()} sockets are open, which is the limit. Try again later."
            raise ApiError(503, "overloaded", message, retry_after=10)
        self._sockets[caller] += 1
        try:
            yield
        finally:
            self._sockets[caller] -= 1
            if not self._sockets[caller]:
                del self._sockets[caller]

    def _check_page(self, connection: HTTPConnection) -> None:
        """Refuse web pages of other hosts: a browser would let any page call a service that listens on this machine only."""
        host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
        if len(connection.headers.getlist("host")) > 1:
            # A proxy may have checked the other one.
            raise bad_request("wrong_host", "The request has several Host headers. Send one.")
        if not self._keys and _address(f"//{host}").hostname not in LOOPBACK:
            # Another site's name that resolves to this machine (DNS rebinding).
            raise bad_request(
                "wrong_host", f"Host is {host!r}. Without API keys this service accepts calls to localhost only."
            )
        if origin is not None and _address(origin).netloc != host and origin not in self._settings.allowed_origins:
            message = f"Pages of {origin} may not call this service. The operator can allow it (allowed_origins)."
            raise ApiError(403, "wrong_origin", message)

    def _count(self, name: str) -> None:
        if self._rate is not None and (wait := self._rate.wait(name)):
            message = f"More than {self._rate.most} requests a minute. Wait {math.ceil(wait)} s."
            raise ApiError(429, "rate_limit_exceeded", message, retry_after=wait)


def _key_of(connection: HTTPConnection) -> str | None:
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    offered = connection.scope.get("subprotocols", [])
    return next((each.removeprefix(_KEY_PROTOCOL) for each in offered if each.startswith(_KEY_PROTOCOL)), None)


def subprotocol_of(connection: HTTPConnection) -> str | None:
    """Return the subprotocol to answer with: the first offered one that is not a key."""
    return next((each for each in connection.scope.get("subprotocols", []) if not each.startswith(_KEY_PROTOCOL)), None)


def _address(given: str) -> SplitResult:
    """Parse an address; one that cannot be parsed has no host."""
    try:
        return urlsplit(given)
    except ValueError:
        return urlsplit("")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
