"""One server and its calls: how many it gets at a time, and what their failures say about it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator

from asrloop_client.channel import Connection, Dial
from asrloop_client.control.watching import WatchedServer
from asrloop_client.deaths import Deaths
from asrloop_client.errors import AsrError, PoolExhausted, ServerGone
from asrloop_client.pool import Member
from asrloop_client.settings import Settings

_GROWTH = 1 / 16
"""Calls at a time that a server gets more with every answer after it was [overloaded]."""


class Endpoint(WatchedServer):
    """One server, `host:port`, which is in or out. Lives in one asyncio loop."""

    def __init__(self, address: str, dial: Dial, settings: Settings, on_news: Callable[[], None]) -> None:
        super().__init__(address, dial, settings, on_news)
        self.calls = self.in_flight = self.streams = 0
        """Calls so far, calls now, live streams now."""
        self.limit = math.inf
        """Most calls of this client at a time, learnt from [overloaded]: more would only carry the audio there and back."""
        self._trial: Deaths | None = None
        self._trial_until = 0.0
        """The suspect that began here last, and until when it has this server without another one."""

    def has_room_for(self, deaths: Deaths) -> bool:
        """True when one more call stays within `limit`, and no other suspect has just begun here."""
        return self.in_flight + 1 <= self.limit and not (
            deaths and self._trial and time.monotonic() < self._trial_until
        )

    def why_not(self, model: str) -> str:
        """Say why this server gets no call for `model`."""
        if not self.is_in:
            return self.last_failure or f"{self.address}: it does not answer."
        if self.loaded.get(model) is False:
            return f"{self.address}: model {model!r} is not loaded. Wait, or look at the server's log."
        return self.last_failure or f"{self.address}: it takes no further calls now."

    async def acquire(self, fail_fast: bool) -> Member[Connection]:
        """Return a channel for one call. Raises PoolExhausted with `fail_fast`."""
        config = self.pool.config
        try:
            async with asyncio.timeout(config.acquire_timeout if fail_fast else None):
                return await self.pool.acquire()
        except TimeoutError:
            raise PoolExhausted(
                f"{self.address}: no channel came free in {config.acquire_timeout:.3g} s; all {config.max_channels} channels "
                f"have {config.calls_per_channel} call(s). Raise max_channels, calls_per_channel or acquire_timeout, call less "
                "at once, or leave fail_fast off."
            ) from None

    @contextlib.contextmanager
    def calling(self, deaths: Deaths) -> Iterator[None]:
        """Count a call, and learn from how it ends."""
        began = time.monotonic()
        if deaths:
            self._trial, self._trial_until = deaths, deaths.trial_until()
        self.calls += 1
        self.in_flight += 1
        try:
            yield
            self.answered()
            self.limit += _GROWTH
            if self.limit > self.pool.config.max_channels * self.pool.config.calls_per_channel:
                self.limit = math.inf
        except AsrError as error:
            self.failed(error, began)
            raise
        finally:
            self.in_flight -= 1
            was_on_trial = self._trial is deaths
            if was_on_trial:
                self._trial = None
            if self.limit < math.inf or was_on_trial:
                self._on_news()

    def failed(self, error: AsrError, began: float) -> None:
        """Learn from a call that began at `began` and failed; takes the server out only where that concerns it."""
        self.last_failure = str(error)
        if error.code is not None and error.code != "closing":
            self.answered()
        if error.code == "overloaded":
            self.limit = max(1, self.in_flight - 1)
        if isinstance(error, ServerGone):
            self.gone(error, began)
