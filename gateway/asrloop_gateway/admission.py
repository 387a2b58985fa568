"""Who may call, from which pages, and how often. Knows nothing of audio."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, urlsplit

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import HTTPConnection

from asrloop_gateway.errors import ApiError, bad_request
from asrloop_gateway.settings import LOOPBACK, Settings

_KEY_PROTOCOL = "openai-insecure-api-key."
"""Browsers cannot set headers of a WebSocket; OpenAI's take the key as a subprotocol that begins so."""


class Admission:
    """Checks a request or a socket before anything else is done for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = [_digest(key.encode()) for key in settings.all_keys()]
        self._rate = RateLimitItemPerMinute(settings.requests_per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._sockets: Counter[str] = Counter()

    def admit(self, connection: HTTPConnection) -> str:
        """Who calls: an address, or a name for a key. Raises ApiError 400, 401, 403 or 429."""
        self._check_page(connection)
        address = connection.client.host if connection.client else "unknown"
        self._count("address", address)
        if not self._keys:
            return address
        given = _key_of(connection)
        if given is None:
            raise ApiError(401, "missing_api_key", "this service wants a key: send `Authorization: Bearer KEY`")
        digest = _digest(given.encode("latin-1"))  # as headers are read here: these are its bytes again
        # All are compared, so that the time does not tell which one was nearly right.
        if not sum(hmac.compare_digest(digest, key) for key in self._keys):
            raise ApiError(401, "invalid_api_key", "this key is not one of this service's: ask its keeper")
        name = digest.hex()[:16]
        self._count("key", name)
        return name

    @contextmanager
    def socket(self, caller: str) -> Iterator[None]:
        """Around an open socket. Raises ApiError 429 for one too many of a caller, 503 for one too many of all."""
        if self._sockets[caller] >= self._settings.sockets_per_caller:
            message = f"{self._sockets[caller]} sockets of yours are open, the most there may be: close one"
            raise ApiError(429, "too_many_sockets", message, retry_after=10)
        if self._sockets.total() >= self._settings.sockets:
            message = f"{self._sockets.total()} sockets are open, the most there may be: try again later"
            raise ApiError(503, "overloaded", message, retry_after=10)
        self._sockets[caller] += 1
        try:
            yield
        finally:
            self._sockets[caller] -= 1
            if not self._sockets[caller]:
                del self._sockets[caller]

    def _check_page(self, connection: HTTPConnection) -> None:
        """Pages of other hosts are refused: a browser would let any of them use what only listens on this machine."""
        host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
        if len(connection.headers.getlist("host")) > 1:
            # A proxy may have looked at the other one.
            raise bad_request("wrong_host", "there is more than one Host: send one")
        if not self._keys and _address(f"//{host}").hostname not in LOOPBACK:
            # A name of someone else's that leads here (DNS rebinding).
            raise bad_request("wrong_host", f"Host is {host!r}: without keys this service is for this machine only")
        if origin is not None and _address(origin).netloc != host and origin not in self._settings.allowed_origins:
            raise ApiError(
                403, "wrong_origin", f"pages of {origin} may not call: its keeper can allow it (allowed_origins)"
            )

    def _count(self, kind: str, name: str) -> None:
        if not self._limiter.hit(self._rate, kind, name):
            wait = self._limiter.get_window_stats(self._rate, kind, name).reset_time - time.time()
            message = f"more than {self._settings.requests_per_minute} requests a minute: wait {max(1, wait):.0f} s"
            raise ApiError(429, "rate_limit_exceeded", message, retry_after=wait)


def _key_of(connection: HTTPConnection) -> str | None:
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    offered = connection.scope.get("subprotocols", [])
    return next((each.removeprefix(_KEY_PROTOCOL) for each in offered if each.startswith(_KEY_PROTOCOL)), None)


def subprotocol_of(connection: HTTPConnection) -> str | None:
    """Which of the offered subprotocols to answer with: the first that is no key."""
    return next((each for each in connection.scope.get("subprotocols", []) if not each.startswith(_KEY_PROTOCOL)), None)


def _address(given: str) -> SplitResult:
    """What cannot be read has no host."""
    try:
        return urlsplit(given)
    except ValueError:
        return urlsplit("")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
