"""A server's state, in or out: out when it does not answer, in again when it answers its probe.

The probe asks whether the models are loaded: rarely while all is well, with growing, jittered pauses while the server is out,
and at once when a call has doubts.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tritonclient.grpc import service_pb2

from asrloop_client.channel import Connection, Dial
from asrloop_client.control.channel import LOG, NO_ANSWER, ControlChannel, headers_of
from asrloop_client.errors import AsrError, ClientClosed, ServerGone
from asrloop_client.pool import Pool
from asrloop_client.settings import PoolConfig, Settings

_RANDOM = random.Random()  # noqa: S311 - it spreads pauses, it keeps no secret
_OUT_PAUSES = (0.05, 1.0)
"""Seconds before the first probe of a server that is out, doubled up to the second."""
_CLOSE_SECONDS = 1.0


def backoff(attempt: int, first: float, most: float) -> float:
    """Return the seconds to wait after failure number `attempt`, from 1: doubling, the upper half left to chance."""
    return _RANDOM.uniform(0.5, 1.0) * min(most, first * 2.0 ** min(attempt - 1, 30))


class WatchedServer:
    """A server's channels, and what its probe says about it. Lives in one asyncio loop."""

    def __init__(self, address: str, dial: Dial, settings: Settings, on_news: Callable[[], None]) -> None:
        self.address = address
        unbounded = PoolConfig(min_channels=0, max_channels=2**31)
        self.pool: Pool[Connection] = Pool(
            (settings.pool or PoolConfig()) if settings.pooling else unbounded,
            lambda: dial(address),
            lambda connection: self._spawn(connection.close(), name="close"),
        )
        self.control = ControlChannel(address, dial, settings)
        self.is_in = True
        self.loaded: dict[str, bool | None] = dict.fromkeys((settings.model, settings.file_model))
        """Models at the last probe; None when the server does not know the model or does not say."""
        self.last_failure: str | None = None
        """The message only: an exception would keep its traceback alive, and with it the failed call and its socket."""
        self._settings, self._on_news = settings, on_news
        self._probing: asyncio.Task[None] | None = None
        self._went_out = asyncio.Event()
        self._answered_at = self._in_since = -math.inf
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def serves(self, model: str) -> bool:
        """True when calls for `model` may be sent, also for a model that the server does not know: they fail at once."""
        return self.is_in and self.loaded.get(model) is not False

    @property
    def is_ready(self) -> bool:
        """True when calls for one of the models may be sent."""
        return any(map(self.serves, self.loaded))

    def watch(self) -> None:
        """Begin to probe and to close idle channels."""
        self._spawn(self._watch())

    def answered(self) -> None:
        """Note that the server answered a call, be it with an error."""
        self._answered_at = time.monotonic()

    def gone(self, error: AsrError, began: float) -> None:
        """Take the server out after `error` of a call that began at `began`."""
        # A call from before the server came back says nothing about it now.
        if began >= self._in_since:
            self._go_out(error)

    def end_at_server(self, cancel_key: str, loop: str) -> None:
        """Have the Triton model `loop` end the request with this key, without waiting for it."""
        if not self._closed:
            self._spawn(self.control.end(cancel_key, loop), name="end_at_server")

    async def answers(self, within: float) -> bool:
        """True when the server answered in the last `within` s, or answers its probe now."""
        if time.monotonic() - self._answered_at > within or not self.is_in:
            await self.probe()
        return self.is_in

    async def probe(self) -> bool:
        """Ask which models are loaded, go in or out by the answer, and return `is_ready`. Concurrent callers share a probe."""
        if self._probing is None:
            self._probing = self._spawn(self._probe())
            self._probing.add_done_callback(lambda _: setattr(self, "_probing", None))
        await asyncio.shield(self._probing)
        return self.is_ready

    async def close(self) -> None:
        """Send the cancellations that are under way, then close all channels."""
        self._closed = True
        last = [task for task in self._tasks if task.get_name() == "end_at_server"]
        if last:
            await asyncio.wait(last, timeout=_CLOSE_SECONDS)
        self.pool.close()
        self._drop_control()
        for task in self._tasks:
            if task.get_name() != "close":
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str = "work") -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _drop_control(self, grace: float | None = None) -> None:
        if connection := self.control.drop():
            self._spawn(connection.close(grace), name="close")

    async def _watch(self) -> None:
        failed = 0
        while True:
            if self.is_in:
                failed = 0
                pause = min(self._settings.probe_interval, self.pool.config.idle_timeout) * _RANDOM.uniform(0.8, 1.2)
            else:
                pause = backoff(failed, *_OUT_PAUSES) if failed else 0.0
                failed += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._went_out.wait()
            self._went_out.clear()
            await self.probe()
            self.pool.expire()
            if self.is_in:
                await self._connect()

    async def _probe(self) -> None:
        was_in = self.is_in
        if not was_in:
            # A new channel connects at once; the old one would wait as long as gRPC decides. It may still have calls.
            self._drop_control(self._settings.probe_timeout)
        try:
            loaded = {model: await self.is_loaded(model) for model in self.loaded}
        except AsrError as error:
            self._go_out(error)
            self.pool.lose(ServerGone(f"{self.address}: {error}"))
            return
        self._answered_at = time.monotonic()
        await self._connect()
        if was_in and not self.is_in:  # a call took it out meanwhile, and these answers may be from before that
            await self._probe()
            return
        if not self.is_in:
            LOG.info("%s answers again", self.address)
            self._in_since, self.is_in = time.monotonic(), True
            self.last_failure = None
        for model in loaded:
            if loaded[model] is False and self.loaded[model] is not False:
                LOG.warning("%s has not loaded %s; calls for it wait", self.address, model)
        self.loaded = loaded
        self._on_news()

    async def is_loaded(self, model: str) -> bool | None:
        """Return the value for `loaded`. Raises AsrError when there is no answer; a refusal is an answer, and calls get it too."""
        try:
            return await self.control.is_loaded(model)
        except NO_ANSWER:
            raise
        except AsrError as error:
            self.last_failure = str(error)
            return None

    async def _connect(self) -> None:
        """Open channels up to the pool's minimum; a call on one that fails reports it."""

        opened = self.pool.refill()
        if not opened:
            return
        try:
            async with asyncio.timeout(self._settings.probe_timeout):
                headers = await headers_of(self._settings)
        except (AsrError, TimeoutError):  # calls report it
            return

        async def connect(connection: Connection) -> None:
            request = service_pb2.ServerLiveRequest()
            await connection.call("ServerLive", request, self._settings.probe_timeout, headers)

        await asyncio.gather(*map(connect, opened), return_exceptions=True)

    def _go_out(self, error: AsrError) -> None:
        if self._closed or isinstance(error, ClientClosed):
            return
        self.last_failure = str(error)
        if self.is_in:
            LOG.warning("%s gets no calls until it answers: %s", self.address, error)
            self.is_in = False
            self._went_out.set()
        self._on_news()
