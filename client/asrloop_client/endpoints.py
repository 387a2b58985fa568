"""One server, in or out: out when connecting or a call fails in a way that concerns it, in again when its probe answers.

The probe has a channel of its own and asks whether the models are loaded: rarely while all is well, with growing, jittered
pauses while the server is out, and at once when a call has doubts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from tritonclient.grpc import service_pb2

from asrloop_client.channel import Connection, Dialer
from asrloop_client.control.cancel import control_request
from asrloop_client.errors import AsrError, Cancelled, ClientClosed, DeadlineExceeded, ServerGone
from asrloop_client.pool import Pool
from asrloop_client.settings import Settings

_RANDOM = random.Random()  # noqa: S311 - it spreads pauses, it keeps no secret
LOG = logging.getLogger("asrloop_client")

CANCEL_TIMEOUT = 1.0
"""Seconds for the call that tells the server to end a transcription nobody waits for."""
_OUT_PAUSES = (0.05, 1.0)
"""Seconds before the first probe of a server that is out, doubled up to the second."""
_GROWTH = 1 / 16
"""Calls at a time that a server gets more with every answer after it was [overloaded]."""
_NO_ANSWER = (ServerGone, DeadlineExceeded, Cancelled)


def backoff(attempt: int, first: float, most: float) -> float:
    """Seconds to wait after failure number `attempt`, from 1: doubling, the upper half left to chance."""
    return _RANDOM.uniform(0.5, 1.0) * min(most, first * 2.0 ** min(attempt - 1, 30))


class Endpoint:
    """One server: its address `host:port`, its pool, and whether it is in. Lives in one asyncio loop."""

    def __init__(self, address: str, dialer: Dialer, settings: Settings, on_news: Callable[[], None]) -> None:
        self.address = address
        self.pool: Pool[Connection] = Pool(
            settings.channels,
            lambda: dialer.connection(address),
            lambda connection: self._spawn(connection.close(), name="close"),
        )
        self.is_in = True
        self.loaded: dict[str, bool | None] = dict.fromkeys(settings.models)
        """By model, at the last probe; None when the server does not know the model or does not say."""
        self.calls = self.in_flight = self.streams = 0
        """Calls so far, calls now, live streams now."""
        self.last_failure: str | None = None
        """The message only: an exception would keep its traceback alive, and with it the failed call and its socket."""
        self.limit = math.inf
        """Most calls of this client at a time, learnt from [overloaded]: more would only carry the audio there and back."""
        self._dialer, self._settings, self._on_news = dialer, settings, on_news
        self._control: Connection | None = None
        self._probing: asyncio.Task[None] | None = None
        self._went_out = asyncio.Event()
        self._answered_at = self._in_since = -math.inf
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def serves(self, model: str) -> bool:
        """True when calls for `model` may be sent: a model the server does not know is an error at once, others wait."""
        return self.is_in and self.loaded.get(model) is not False

    @property
    def is_ready(self) -> bool:
        """True when calls for one of the models may be sent."""
        return any(map(self.serves, self.loaded))

    @property
    def has_room(self) -> bool:
        """True when one more call stays within `limit`."""
        return self.in_flight + 1 <= self.limit

    def why_not(self, model: str) -> str:
        """Say why this server gets no call for `model`."""
        if not self.is_in:
            return self.last_failure or f"{self.address}: it does not answer."
        if self.loaded.get(model) is False:
            return f"{self.address}: model {model!r} is not loaded. Wait, or look at the server's log."
        return self.last_failure or f"{self.address}: it has as much to do as it takes."

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Count a call, and learn from how it ends."""
        began = time.monotonic()
        self.calls += 1
        self.in_flight += 1
        try:
            yield
            self._answered()
        except AsrError as error:
            self.failed(error, began)
            raise
        finally:
            self.in_flight -= 1
            if self.limit < math.inf:
                self._on_news()

    def _answered(self) -> None:
        self._answered_at = time.monotonic()
        self.limit += _GROWTH
        if self.limit > self.pool.config.max_channels * self.pool.config.calls_per_channel:
            self.limit = math.inf

    def failed(self, error: AsrError, began: float) -> None:
        """Learn from a call that began at `began` and failed; takes the server out only where that concerns it."""
        self.last_failure = str(error)
        if error.code is not None and error.code != "closing":
            self._answered_at = time.monotonic()
        if error.code == "overloaded":
            self.limit = max(1, self.in_flight - 1)
        # A call from before the server came back says nothing about it now.
        if isinstance(error, ServerGone) and began >= self._in_since:
            self._go_out(error)

    def watch(self) -> None:
        """Begin to probe and to close idle channels."""
        self._spawn(self._watch())

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

    async def ask(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """Call `method` on the channel of the probe, by default with the probe's time limit. Raises AsrError."""
        self._control = self._control or self._dialer.connection(self.address)
        seconds = timeout or self._settings.probe_timeout
        return await self._control.call(method, request, seconds, self._settings.all_headers())

    def end_at_server(self, cancel_key: str) -> None:
        """Have the server end the request with this key, without waiting for it."""
        if not self._closed:
            self._spawn(self._end_at_server(cancel_key), name="end_at_server")

    async def close(self) -> None:
        """Send the cancellations that are under way, then close all channels."""
        self._closed = True
        last = [task for task in self._tasks if task.get_name() == "end_at_server"]
        if last:
            await asyncio.wait(last, timeout=CANCEL_TIMEOUT)
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

    async def _end_at_server(self, cancel_key: str) -> None:
        try:
            request = control_request(self._settings.loop_model, "cancel", cancel_key)
            await self.ask("ModelInfer", request, CANCEL_TIMEOUT)
        except AsrError as error:
            LOG.debug("%s: a request could not be cancelled: %s", self.address, error)

    def _drop_control(self, grace: float | None = None) -> None:
        if self._control is not None:
            self._spawn(self._control.close(grace), name="close")
            self._control = None

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
            # A new channel connects at once; the old one would wait as long as gRPC thinks fit. Others may be asking on it.
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
        """See `loaded`. Raises AsrError when there is no answer; a refusal is one, and calls get it too."""
        ready: bool | None = None
        try:
            ready = (await self.ask("ModelReady", service_pb2.ModelReadyRequest(name=model))).ready
            if not ready:  # which Triton also says of a wrong name
                index = await self.ask("RepositoryIndex", service_pb2.RepositoryIndexRequest())
                return False if any(each.name == model for each in index.models) else None
        except _NO_ANSWER:
            raise
        except AsrError as error:
            if ready is None:  # else only the index is closed to us
                self.last_failure = str(error)
        return ready

    async def _connect(self) -> None:
        """Open channels up to the pool's minimum; a call on one that fails reports it."""

        async def connect(connection: Connection) -> None:
            request, headers = service_pb2.ServerLiveRequest(), self._settings.all_headers()
            await connection.call("ServerLive", request, self._settings.probe_timeout, headers)

        await asyncio.gather(*map(connect, self.pool.refill()), return_exceptions=True)

    def _go_out(self, error: AsrError) -> None:
        if self._closed or isinstance(error, ClientClosed):
            return
        self.last_failure = str(error)
        if self.is_in:
            LOG.warning("%s gets no calls until it answers: %s", self.address, error)
            self.is_in = False
            self._went_out.set()
        self._on_news()
