"""One client's calls: which server, when to try again, when to stop. Lives in one asyncio loop; both clients stand before it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack

from asrloop_client.audio import Audio, EncodedFile, Pcm, is_slow, load
from asrloop_client.channel import Dialer
from asrloop_client.endpoints import LOG, Endpoint, ServerState, backoff
from asrloop_client.errors import (
    AsrError,
    ClientClosed,
    DeadlineExceeded,
    ModelNotReady,
    Overloaded,
    PoolExhausted,
    ServerGone,
)
from asrloop_client.settings import CallOptions, OnProgress, Parameter, Settings
from asrloop_client.transcript import Timings, Transcript
from asrloop_client.wire import Request, keep_large_blocks, read_reply

_PATIENCE = (0.25, 2.0)
"""A call without an answer asks its server's probe after a quarter of its timeout, but within these seconds."""
_PAUSES = (0.05, 5.0)
"""Seconds before a call tries the same servers again, doubled up to the second."""
_ASK_PAUSES = (0.05, 1.0)
"""The same before whoever waits for a model asks again whether it is loaded."""
_REPORT_SECONDS = 0.5
_LARGE = 8 << 20
"""Messages of more bytes are put together in a thread."""


@dataclass(kw_only=True)
class Search:
    """A call's way from server to server."""

    model: str
    fail_fast: bool
    tried: set[str] = field(default_factory=set)
    """Servers asked since the last pause."""
    last: str | None = None
    """What the last attempt failed with, or why there was none."""
    pauses: int = 0
    waits: int = 0


@dataclass(kw_only=True)
class _Job(Search):
    """One transcription to do, the same in all its attempts; times by time.monotonic()."""

    request: Request
    headers: Mapping[str, str]
    started: float
    timeout: float
    on_progress: OnProgress | None = None
    attempts: int = 0


class Core:
    """One client's servers and calls."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pid = os.getpid()
        self.closed = False
        keep_large_blocks()
        dialer = Dialer(settings.tls)
        self.endpoints = [Endpoint(each, dialer, settings, self._tell) for each in settings.addresses]
        self._turn = 0
        self._news = asyncio.Event()
        self._watching = False
        self._running: set[asyncio.Task[Any]] = set()

    def watch(self) -> None:
        """Begin to look after the servers. A second time does nothing."""
        if not self._watching:
            self._watching = True
            for endpoint in self.endpoints:
                endpoint.watch()

    async def start(self) -> None:
        """Connect to all servers; returns when one has a model. ServerGone if none answers, ModelNotReady if none has one."""
        self.watch()
        probes = {asyncio.ensure_future(endpoint.probe()): endpoint for endpoint in self.endpoints}
        waiting = set(probes)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(probes[each].is_ready for each in done):
                return
        if self.settings.fail_fast or not any(endpoint.is_in for endpoint in self.endpoints):
            raise self._none_serves(self.settings.model)
        try:
            async with asyncio.timeout(self.settings.timeout):
                await self._until_ready()
        except TimeoutError:
            raise self._none_serves(self.settings.model) from None

    async def wait_until_ready(self, timeout: float) -> None:
        """Return when a server and one of its models answer; raises DeadlineExceeded after `timeout` s."""
        self.watch()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(endpoint.probe() for endpoint in self.endpoints))
                await self._until_ready()
        except TimeoutError:
            why = self._none_serves(self.settings.model)
            raise DeadlineExceeded(f"no server was ready within {timeout:g} s: {why}") from None

    async def transcribe(
        self, audio: Audio, gate: asyncio.Semaphore | None = None, **options: Unpack[CallOptions]
    ) -> Transcript:
        """One transcription, begun when `gate` lets it. Raises AsrError and nothing else."""
        with self.running():
            async with gate or contextlib.nullcontext():
                return await self._within_deadline(audio, **options)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Around what the task does for a caller: closing the client ends it with ClientClosed."""
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a call runs in a task")
        self.watch()
        self._running.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if self.closed:
                raise ClientClosed("the client was closed during the call.") from None
            raise
        finally:
            self._running.discard(task)
            del task

    async def health(self, deep: Audio | None = None) -> list[ServerState]:
        """What every server says now; with `deep` after transcribing that."""
        return await asyncio.gather(*(self._health(endpoint, deep) for endpoint in self.endpoints))

    async def close(self) -> None:
        """End all calls with ClientClosed and close all channels."""
        self.closed = True
        running = set(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints))

    async def _within_deadline(
        self,
        audio: Audio,
        *,
        sample_rate: float = 16000,
        timeout: float | None = None,
        parameters: Mapping[str, Parameter] | None = None,
        headers: Mapping[str, str] | None = None,
        fail_fast: bool | None = None,
        request_id: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Transcript:
        started = time.monotonic()
        seconds = self.settings.seconds(timeout)
        job: _Job | None = None
        try:
            async with asyncio.timeout(seconds):
                slow = is_slow(audio)
                loaded = await asyncio.to_thread(load, audio, sample_rate) if slow else load(audio, sample_rate)
                model = self._model(loaded)
                job = _Job(
                    model=model,
                    request=Request(loaded, model, parameters or {}, request_id or uuid.uuid4().hex),
                    headers=self.settings.all_headers(headers),
                    fail_fast=self.settings.fail_fast if fail_fast is None else fail_fast,
                    started=started,
                    timeout=seconds,
                    on_progress=on_progress,
                )
                return await self._until_answered(job)
        except AsrError:
            raise
        except TimeoutError:
            said = f"; the last error: {job.last}" if job and job.last else ""
            raise DeadlineExceeded(f"no reply within {seconds:.3g} s{said} Raise `timeout`.") from None

    async def _until_answered(self, job: _Job) -> Transcript:
        while True:
            endpoint = await self.next_server(job)
            try:
                return await self._attempt(endpoint, job)
            except AsrError as error:
                if not await self.may_go_on(error, endpoint, job):
                    raise
                job.last = str(error)
                LOG.info("%s: attempt %d failed and is made again: %s", job.request.request_id, job.attempts, error)

    async def next_server(self, search: Search) -> Endpoint:
        """The server to ask now, as soon as there is one; with `fail_fast` an AsrError if there is none."""
        while True:
            endpoint = self._choose(search)
            if endpoint is not None:
                search.tried.add(endpoint.address)
                return endpoint
            if search.tried:
                # The pause is for the servers that failed this very call; others wait for theirs.
                search.pauses += 1
                await asyncio.sleep(backoff(search.pauses, *_PAUSES))
                search.tried.clear()
            elif search.fail_fast:
                raise self._none_serves(search.model)
            else:
                search.waits += 1
                search.last = str(self._none_serves(search.model))
                await self._wait(search.waits)

    async def _until_ready(self) -> None:
        waits = 0
        while not any(endpoint.is_ready for endpoint in self.endpoints):
            waits += 1
            await self._wait(waits)

    async def _wait(self, number: int) -> None:
        """For news of a server. Those that are out tell by themselves; those without a model are asked when a pause is over."""
        try:
            async with asyncio.timeout(backoff(number, *_ASK_PAUSES)):
                await self._news.wait()
        except TimeoutError:
            await asyncio.gather(
                *(each.probe() for each in self.endpoints if each.is_in and False in each.loaded.values())
            )

    async def may_go_on(self, error: AsrError, endpoint: Endpoint, search: Search) -> bool:
        """Whether another attempt may succeed after `error` of `endpoint`."""
        if isinstance(error, ModelNotReady):
            # Its probe tells a model that is not loaded from a wrong name, which only another server may know.
            await endpoint.probe()
            return self._choose(search) is not None or not (endpoint.serves(search.model) or search.fail_fast)
        return error.retryable and not (search.fail_fast and self._choose(search) is None)

    def _model(self, audio: Pcm | EncodedFile) -> str:
        return self.settings.file_model if isinstance(audio, EncodedFile) else self.settings.model

    def _choose(self, search: Search) -> Endpoint | None:
        """The least busy of the servers that have the model and that this call has not just tried; ties go round."""
        self._turn += 1
        count = len(self.endpoints)
        rotated = [self.endpoints[(self._turn + i) % count] for i in range(count)]
        open_to_us = [
            each for each in rotated
            if each.serves(search.model) and each.address not in search.tried and (each.has_room or search.fail_fast)
        ]  # fmt: skip
        return min(open_to_us, key=lambda each: each.in_flight + each.streams, default=None)

    async def _attempt(self, endpoint: Endpoint, job: _Job) -> Transcript:
        job.attempts += 1
        began = time.monotonic()
        with endpoint.calling():
            member = await self.acquire(endpoint, job.fail_fast)
            acquired = time.monotonic()
            call: asyncio.Future[Any] | None = None
            reports = asyncio.ensure_future(self._report(endpoint, job)) if job.on_progress else None
            broken = True
            try:
                remaining = max(0.001, job.started + job.timeout - acquired)
                build = job.request.serialised
                message = await asyncio.to_thread(build, remaining) if job.request.size > _LARGE else build(remaining)
                # gRPC's own limit is only a net: ours ends the call and tells the server.
                call = asyncio.ensure_future(
                    member.connection.call("ModelInfer", message, remaining + 0.5, job.headers)
                )
                response = await self._answer(endpoint, call, job)
                broken = False
            except AsrError as error:
                broken = isinstance(error, ServerGone)
                raise
            finally:
                if reports is not None:
                    reports.cancel()
                if call is not None and not call.done():
                    call.cancel()
                    endpoint.end_at_server(job.request.cancel_key)
                endpoint.pool.release(member, broken, reuse=self.settings.pooling)
                # An error must not keep its call, and by it a socket, alive through this frame.
                del call, member
        transcript, now = read_reply(response, endpoint.address, job.request.duration), time.monotonic()
        timings = Timings(total=now - job.started, acquire=acquired - began, call=now - acquired)
        return dataclasses.replace(
            transcript, timings=timings, attempts=job.attempts, request_id=job.request.request_id
        )

    async def acquire(self, endpoint: Endpoint, fail_fast: bool) -> Any:
        """A channel for one call."""
        config = endpoint.pool.config
        try:
            async with asyncio.timeout(config.acquire_timeout if fail_fast else None):
                return await endpoint.pool.acquire()
        except TimeoutError:
            raise PoolExhausted(
                f"{endpoint.address}: no channel came free in {config.acquire_timeout:.3g} s; all {config.max_channels} channels "
                f"have {config.calls_per_channel} call(s). Raise max_channels, calls_per_channel or acquire_timeout, call less "
                "at once, or leave fail_fast off."
            ) from None

    async def _answer(self, endpoint: Endpoint, call: asyncio.Future[Any], job: _Job) -> Any:
        """The response. A long wait is no failure as long as the server answers its probe."""
        patience = min(_PATIENCE[1], max(_PATIENCE[0], job.timeout / 4))
        while True:
            done, _ = await asyncio.wait({call}, timeout=patience)
            if done:
                done.clear()
                try:
                    return call.result()
                finally:
                    del call
            if not await endpoint.answers(patience) and not call.done():
                raise ServerGone(
                    f"{endpoint.address}: no reply, and it does not answer its probe. It hangs or was cut off."
                )

    async def _report(self, endpoint: Endpoint, job: _Job) -> None:
        """Ask how far the request is and tell the caller, until it is cancelled."""
        while job.on_progress is not None:
            await asyncio.sleep(_REPORT_SECONDS)
            try:
                progress = await endpoint.progress(job.request)
                if progress.known:
                    job.on_progress(progress)
            except AsrError as error:
                LOG.debug("%s: no progress to be had: %s", endpoint.address, error)
            except Exception:  # the caller's own function
                LOG.exception("on_progress failed, and is not called again")
                return

    async def _health(self, endpoint: Endpoint, deep: Audio | None) -> ServerState:
        await endpoint.probe()
        found = endpoint.state()
        if found.ready:
            found.error = None  # of a call before
        if deep is not None and found.live:
            began, loaded = time.monotonic(), load(deep, 16000)
            model, limit = self._model(loaded), self.settings.timeout
            try:
                request = Request(loaded, model, {}, "health").serialised(limit)
                read_reply(await endpoint.ask("ModelInfer", request, limit), endpoint.address)
                found.seconds = time.monotonic() - began
            except AsrError as error:
                found.models[model], found.error = False, str(error)
        return found

    def _none_serves(self, model: str) -> AsrError:
        """Why no server takes a call for `model` now."""
        if any(each.serves(model) for each in self.endpoints):
            kind: type[AsrError] = Overloaded
        else:
            kind = ModelNotReady if any(each.is_in for each in self.endpoints) else ServerGone
        return kind("; ".join(each.why_not(model) for each in self.endpoints))

    def _tell(self) -> None:
        """Wake whoever waits for a server."""
        self._news.set()
        self._news = asyncio.Event()
