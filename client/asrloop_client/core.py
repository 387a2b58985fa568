"""One client's calls: which server, when to try again, when to stop. Lives in one asyncio loop; both clients stand before it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from tritonclient.grpc import service_pb2

from asrloop_client.audio import Audio, EncodedFile, Pcm, is_slow, load
from asrloop_client.channel import Dialer, TlsConfig
from asrloop_client.endpoints import LOG, Endpoint, backoff
from asrloop_client.errors import (
    AsrError,
    ClientClosed,
    DeadlineExceeded,
    InvalidConfig,
    ModelNotReady,
    Overloaded,
    PoolExhausted,
    ServerGone,
    require,
)
from asrloop_client.pool import ONE_CALL_PER_CHANNEL, PoolConfig
from asrloop_client.transcript import Timings, Transcript, segments_of, words_of
from asrloop_client.wire import Parameter, Request, keep_large_blocks, read_reply

Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]
"""gRPC metadata, or what gives it for each call."""

_PATIENCE = (0.25, 2.0)
"""A call without an answer asks its server's probe after a quarter of its timeout, but within these seconds."""
_PAUSES = (0.05, 5.0)
"""Seconds before a call tries the same servers again, doubled up to the second."""
_LONGEST = 7 * 86400.0
_LARGE = 8 << 20
"""Messages of more bytes are put together in a thread."""


class CallOptions(TypedDict, total=False):
    """What a single call may set."""

    sample_rate: float
    """Of samples, in Hz (default 16000); files say their own."""
    timeout: float | None
    """Seconds for everything: loading the audio, waiting, every attempt."""
    parameters: Mapping[str, Parameter] | None
    """Request parameters for the server."""
    headers: Mapping[str, str] | None
    """gRPC metadata of this call, besides the client's."""
    fail_fast: bool | None
    """Raise the first failure that no other server can mend, instead of waiting until the deadline."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a client is made with; see AsrClient."""

    servers: Sequence[str]
    model: str
    file_model: str
    loop_model: str
    timeout: float
    fail_fast: bool
    pooling: bool
    pool: PoolConfig
    probe_interval: float
    probe_timeout: float
    headers: Headers
    token: str | None
    token_header: str
    tls: TlsConfig | None

    def __post_init__(self) -> None:
        require(bool(self.servers), "no server was given: give one address `host:port` or a list of them")
        for name in ("timeout", "probe_interval", "probe_timeout"):
            value = getattr(self, name)
            require(0 < value <= _LONGEST, f"{name} is {value} s: give more than 0 and at most {_LONGEST:.0f}")

    def all_headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The headers of a call, the token among them."""
        token = {} if self.token is None else {self.token_header: self.token}
        try:
            own = self.headers() if callable(self.headers) else self.headers
            return {**own, **token, **(more or {})}
        except Exception as error:  # the caller's own function
            raise InvalidConfig(
                f"headers could not be made: {error!r}; give a mapping, or a function for one"
            ) from error


@dataclass(frozen=True)
class ServerHealth:
    """One server's answer to a health check now."""

    address: str
    live: bool
    """The server process answers."""
    models: dict[str, bool]
    """Readiness per model."""
    error: str | None
    """Why it could not be asked, or why a deep check failed."""
    seconds: float | None = None
    """How long a transcription took, of a deep check."""

    @property
    def ready(self) -> bool:
        """Whether transcriptions can be expected to work."""
        return self.live and self.error is None and all(self.models.values())


@dataclass(frozen=True)
class ModelStatistics:
    """One model's counters since its server started, by Triton's statistics extension; times are mean seconds."""

    address: str
    model: str
    successes: int
    failures: int
    executions: int
    mean_request: float
    mean_queue: float
    mean_compute: float


@dataclass(kw_only=True)
class _Job:
    """One transcription to do, the same in all its attempts; `deadline` by time.monotonic()."""

    request: Request
    audio: Pcm | EncodedFile
    request_id: str
    headers: Mapping[str, str]
    fail_fast: bool
    started: float
    deadline: float
    timeout: float
    attempts: int = 0
    tried: set[str] = field(default_factory=set)
    """Servers asked since the last pause."""
    last: str | None = None


class Core:
    """One client's servers and calls."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pid = os.getpid()
        self.closed = False
        keep_large_blocks()
        pool = settings.pool if settings.pooling else ONE_CALL_PER_CHANNEL
        dialer = Dialer(settings.tls)
        self.endpoints = [
            Endpoint(
                address, dialer, pool, settings.model, settings.loop_model, settings.all_headers,
                settings.probe_interval, settings.probe_timeout, self._tell,
            )
            for address in settings.servers
        ]  # fmt: skip
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
        """Connect to all servers; returns when one answers, raises ServerGone when none does."""
        self.watch()
        probes = {asyncio.ensure_future(endpoint.probe()): endpoint for endpoint in self.endpoints}
        waiting = set(probes)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(probes[each].is_in for each in done):
                return
        raise self._none_in()

    async def wait_until_ready(self, timeout: float) -> None:
        """Return when a server and its model answer; raises DeadlineExceeded after `timeout` s."""
        self.watch()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(endpoint.probe() for endpoint in self.endpoints))
                while not any(endpoint.is_in for endpoint in self.endpoints):
                    await self._news.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"no server was ready within {timeout:g} s: {self._none_in()}") from None

    async def transcribe(
        self,
        audio: Audio,
        gate: asyncio.Semaphore | None = None,
        *,
        request_id: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Transcript:
        """One transcription, begun when `gate` lets it. Raises AsrError and nothing else."""
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a transcription runs in a task")
        self.watch()
        self._running.add(task)
        try:
            async with gate or contextlib.nullcontext():
                return await self._within_deadline(audio, request_id or uuid.uuid4().hex, **options)
        except asyncio.CancelledError:
            if self.closed:
                raise ClientClosed("the client was closed during the call.") from None
            raise
        finally:
            self._running.discard(task)
            del task

    async def health(self, deep: Audio | None = None) -> list[ServerHealth]:
        """What every server says now; with `deep` after transcribing that."""
        return await asyncio.gather(*(self._health(endpoint, deep) for endpoint in self.endpoints))

    async def model_statistics(self) -> list[ModelStatistics]:
        """Triton's counters of all models of all servers. Raises AsrError."""

        def mean(duration: Any) -> float:
            return float(duration.ns) / 1e9 / duration.count if duration.count else 0.0

        request, found = service_pb2.ModelStatisticsRequest(), []
        for endpoint in self.endpoints:
            response = await endpoint.ask("ModelStatistics", request, self.settings.probe_timeout)
            for entry in response.model_stats:
                stats = entry.inference_stats
                counts = (stats.success.count, stats.fail.count, entry.execution_count)
                means = (mean(stats.success), mean(stats.queue), mean(stats.compute_infer))
                found.append(ModelStatistics(endpoint.address, entry.name, *counts, *means))
        return found

    async def close(self) -> None:
        """End all calls with ClientClosed and close all channels."""
        self.closed = True
        running = set(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints))

    def _request(self, loaded: Pcm | EncodedFile, parameters: Mapping[str, Parameter], name: str) -> Request:
        ids = (name, uuid.uuid4().hex)
        if isinstance(loaded, EncodedFile):
            return Request.of_file(loaded.content, self.settings.file_model, parameters, *ids)
        return Request.of_samples(loaded.samples, loaded.sample_rate, self.settings.model, parameters, *ids)

    async def _within_deadline(
        self,
        audio: Audio,
        request_id: str,
        *,
        sample_rate: float = 16000,
        timeout: float | None = None,
        parameters: Mapping[str, Parameter] | None = None,
        headers: Mapping[str, str] | None = None,
        fail_fast: bool | None = None,
    ) -> Transcript:
        started = time.monotonic()
        seconds = self.settings.timeout if timeout is None else timeout
        if not isinstance(seconds, int | float) or not seconds <= _LONGEST:
            raise InvalidConfig(f"timeout is {seconds!r}: give seconds, at most {_LONGEST:.0f}")
        job: _Job | None = None
        try:
            async with asyncio.timeout(seconds):
                slow = is_slow(audio)
                loaded = await asyncio.to_thread(load, audio, sample_rate) if slow else load(audio, sample_rate)
                job = _Job(
                    request=self._request(loaded, parameters or {}, request_id), audio=loaded, request_id=request_id,
                    headers=self.settings.all_headers(headers), started=started, deadline=started + seconds,
                    timeout=seconds, fail_fast=self.settings.fail_fast if fail_fast is None else fail_fast,
                )  # fmt: skip
                return await self._until_answered(job)
        except AsrError:
            raise
        except TimeoutError:
            said = f"; the last error: {job.last}" if job and job.last else ""
            raise DeadlineExceeded(f"no reply within {seconds:.3g} s{said} Raise `timeout`.") from None

    async def _until_answered(self, job: _Job) -> Transcript:
        pauses = 0
        while True:
            endpoint = self._choose(job)
            if endpoint is not None:
                try:
                    return await self._attempt(endpoint, job)
                except AsrError as error:
                    if not await self._may_go_on(error, endpoint, job):
                        raise
                    job.last = str(error)
                    LOG.info("%s: attempt %d failed and is made again: %s", job.request_id, job.attempts, error)
            elif job.tried:
                # The pause is for the servers that failed this very call; others wait for theirs.
                pauses += 1
                await asyncio.sleep(backoff(pauses, *_PAUSES))
                job.tried.clear()
            elif job.fail_fast:
                raise self._none_in()
            else:
                await self._news.wait()

    async def _may_go_on(self, error: AsrError, endpoint: Endpoint, job: _Job) -> bool:
        """Whether another attempt may succeed after `error` of `endpoint`."""
        if isinstance(error, ModelNotReady):
            # Its probe tells a model that is not loaded from a wrong name, which only another server may know.
            await endpoint.probe()
            return self._choose(job) is not None or not (endpoint.is_in or job.fail_fast)
        return error.retryable and not (job.fail_fast and self._choose(job) is None)

    def _choose(self, job: _Job) -> Endpoint | None:
        """The least busy of the servers that are in and that this call has not just tried; ties go round."""
        self._turn += 1
        count = len(self.endpoints)
        rotated = [self.endpoints[(self._turn + i) % count] for i in range(count)]
        open_to_us = [
            each for each in rotated
            if each.is_in and each.address not in job.tried and (each.has_room or job.fail_fast)
        ]  # fmt: skip
        return min(open_to_us, key=lambda each: each.in_flight, default=None)

    async def _attempt(self, endpoint: Endpoint, job: _Job) -> Transcript:
        job.tried.add(endpoint.address)
        job.attempts += 1
        began = time.monotonic()
        endpoint.started()
        try:
            member = await self._acquire(endpoint, job)
            acquired = time.monotonic()
            call: asyncio.Future[Any] | None = None
            broken = True
            try:
                remaining = max(0.001, job.deadline - acquired)
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
                if call is not None and not call.done():
                    call.cancel()
                    endpoint.end_at_server(job.request.cancel_key)
                endpoint.pool.release(member, broken)
                # An error must not keep its call, and by it a socket, alive through this frame.
                del call, member
        except AsrError as error:
            endpoint.failed(error, began)
            raise
        finally:
            endpoint.ended()
        endpoint.answered()
        return self._transcript(response, endpoint.address, job, acquired - began, time.monotonic() - acquired)

    async def _acquire(self, endpoint: Endpoint, job: _Job) -> Any:
        if not job.fail_fast:
            return await endpoint.pool.acquire()
        config = endpoint.pool.config
        try:
            async with asyncio.timeout(config.acquire_timeout):
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

    def _transcript(self, response: Any, address: str, job: _Job, acquire: float, call: float) -> Transcript:
        reply = read_reply(response, address)
        words, duration = words_of(reply.token_pieces, reply.token_times), job.audio.duration
        return Transcript(
            text=reply.text,
            segments=segments_of(reply.segments, reply.segment_times, reply.text, duration, words),
            words=words,
            duration=duration,
            confidence=reply.confidence,
            complete=reply.complete,
            tokens=reply.tokens,
            token_times=reply.token_times,
            timings=Timings(total=time.monotonic() - job.started, acquire=acquire, call=call),
            endpoint=address,
            attempts=job.attempts,
            request_id=job.request_id,
        )

    async def _health(self, endpoint: Endpoint, deep: Audio | None) -> ServerHealth:
        names, live, seconds = dict.fromkeys((self.settings.model, self.settings.file_model), False), False, None
        limit = self.settings.probe_timeout
        try:
            live = (await endpoint.ask("ServerLive", service_pb2.ServerLiveRequest(), limit)).live
            for name in names:
                try:
                    answer = await endpoint.ask("ModelReady", service_pb2.ModelReadyRequest(name=name), limit)
                    names[name] = answer.ready
                except AsrError as error:
                    if isinstance(error, ServerGone | DeadlineExceeded):
                        raise
            if deep is not None:
                began = time.monotonic()
                loaded = load(deep, 16000)
                request = self._request(loaded, {}, "health").serialised(self.settings.timeout)
                read_reply(await endpoint.ask("ModelInfer", request, self.settings.timeout), endpoint.address)
                seconds = time.monotonic() - began
        except AsrError as error:
            return ServerHealth(endpoint.address, live, names, str(error))
        return ServerHealth(endpoint.address, live, names, None, seconds)

    def _none_in(self) -> AsrError:
        said = "; ".join(each.last_failure or f"{each.address}: full" for each in self.endpoints)
        return Overloaded(said) if any(each.is_in for each in self.endpoints) else ServerGone(said)

    def _tell(self) -> None:
        """Wake whoever waits for a server."""
        self._news.set()
        self._news = asyncio.Event()
