"""The servers of one client: which of them gets a call, when a call waits for one, when it may be repeated."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from asrloop_client.channel import dialer
from asrloop_client.control.watching import backoff
from asrloop_client.deaths import Deaths
from asrloop_client.endpoints import Endpoint
from asrloop_client.errors import AsrError, ClientClosed, ModelNotReady, Overloaded, ServerGone
from asrloop_client.settings import Settings

T = TypeVar("T")

_PAUSES, _ASK_PAUSES = (0.05, 5.0), (0.05, 1.0)
"""Seconds before a call tries the same servers again, or asks again for a model, doubled up to the second number."""


@dataclass(kw_only=True)
class Search:
    """The search of one call, or of one live stream, for a server."""

    model: str
    fail_fast: bool
    tried: set[str] = field(default_factory=set)
    """Servers asked since the last pause."""
    last: str | None = None
    """The error of the last attempt, or why no attempt was made."""
    pauses: int = 0
    waits: int = 0
    asked: float = 0.0
    """When the server that has the call was chosen, by time.monotonic()."""
    deaths: Deaths = field(default_factory=Deaths)


class Servers:
    """All servers of one client. Lives in one asyncio loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.closed = False
        dial = dialer(settings.tls)
        self.endpoints = [Endpoint(each, dial, settings, self._tell) for each in settings.addresses]
        self._turn = 0
        self._news = asyncio.Event()
        self._watching = False
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a caller's work; closing the client ends it with ClientClosed."""
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a call runs in a task")
        if not self._watching:
            self._watching = True
            for endpoint in self.endpoints:
                endpoint.watch()
        self._running.add(task)
        try:
            return await make()
        except asyncio.CancelledError:
            if self.closed:
                raise ClientClosed("the client was closed during the call.") from None
            raise
        finally:
            self._running.discard(task)
            # An error must not keep itself alive through this frame.
            del task

    async def next_server(self, search: Search) -> Endpoint:
        """Return the server to ask now, as soon as there is one.

        Raises AsrError if there is none: with `fail_fast` at once, otherwise after `server_timeout`.
        """
        limit, alone = self.settings.server_timeout or math.inf, None
        while True:
            endpoint = self._choose(search)
            if endpoint is not None:
                search.tried.add(endpoint.address)
                search.asked = time.monotonic()
                return endpoint
            if any(each.serves(search.model) for each in self.endpoints):
                alone = None
            else:
                now = time.monotonic()
                alone = now if alone is None else alone
                if now - alone >= limit:
                    raise self.none_serves(search.model)
            if search.tried:
                # The pause is for the servers that failed this very call; others wait for theirs.
                search.pauses += 1
                await asyncio.sleep(backoff(search.pauses, *_PAUSES))
                search.tried.clear()
            elif search.fail_fast:
                await self._ask_again()
                if not any(each.serves(search.model) for each in self.endpoints):
                    raise self.none_serves(search.model)
            else:
                search.waits += 1
                search.last = str(self.none_serves(search.model))
                await self.wait_for_news(search.waits)

    async def wait_for_news(self, number: int) -> None:
        """Wait for news. Servers that are out report themselves; those without a model are asked when a pause is over."""
        try:
            async with asyncio.timeout(backoff(number, *_ASK_PAUSES)):
                await self._news.wait()
        except TimeoutError:
            await self._ask_again()

    async def _ask_again(self) -> None:
        """Ask the servers that are in and lacked a model at their last probe, which may be long ago."""
        await asyncio.gather(*(each.probe() for each in self.endpoints if each.is_in and False in each.loaded.values()))

    async def may_go_on(self, error: AsrError, endpoint: Endpoint, search: Search) -> bool:
        """True when another attempt may succeed after `error` of `endpoint`. Raises ServersDied."""
        if isinstance(error, ServerGone) and error.had_request:
            search.deaths.add(endpoint.address, time.monotonic() - search.asked)
        if isinstance(error, ModelNotReady):
            # Its probe tells a model that is not loaded from a wrong name, which only another server may know.
            await endpoint.probe()
            return self._choose(search) is not None or not (endpoint.serves(search.model) or search.fail_fast)
        return error.retryable and not (search.fail_fast and self._choose(search) is None)

    def none_serves(self, model: str) -> AsrError:
        """Return the error that says why no server takes a call for `model` now."""
        kind: type[AsrError] = ModelNotReady if any(each.is_in for each in self.endpoints) else ServerGone
        if any(each.serves(model) for each in self.endpoints):
            kind = Overloaded
        return kind("; ".join(each.why_not(model) for each in self.endpoints))

    async def close(self) -> None:
        """End all calls with ClientClosed and close all channels."""
        self.closed = True
        running = set(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints))

    def _choose(self, search: Search) -> Endpoint | None:
        """Return the least busy of the servers that have the model and that this call has not just tried; ties go round."""
        self._turn = (self._turn + 1) % len(self.endpoints)
        in_turn = self.endpoints[self._turn :] + self.endpoints[: self._turn]
        open_to_us = (each for each in in_turn if each.serves(search.model) and each.address not in search.tried)
        usable = (each for each in open_to_us if search.fail_fast or each.has_room_for(search.deaths))
        return min(usable, key=lambda each: each.in_flight + each.streams, default=None)

    def _tell(self) -> None:
        """Wake all calls that wait for a server."""
        self._news.set()
        self._news = asyncio.Event()
