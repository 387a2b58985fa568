"""AsyncAsrClient, the asyncio client; it belongs to the loop it was started in, as grpc.aio's objects do."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from asrloop_client.aio_pool import AsyncChannelPool
from asrloop_client.audio import Audio
from asrloop_client.call import Attempt, Pause
from asrloop_client.channel import AsyncConnection, Dialer
from asrloop_client.config import ClientConfig
from asrloop_client.core import CANCEL_TIMEOUT, LOOKAHEAD, Answer, Core, Job
from asrloop_client.endpoints import EndpointStats
from asrloop_client.errors import AsrError, ServerGone
from asrloop_client.transcript import Transcript
from asrloop_client.upkeep import CloseExpired, ModelStatistics, Refill, ServerHealth, Step
from asrloop_client.wire import Parameter

StepT = TypeVar("StepT")
ReturnT = TypeVar("ReturnT")

Pool = AsyncChannelPool[AsyncConnection]


class AsyncAsrClient:
    """AsrClient for asyncio, with the same settings, errors and behaviour.

    `async with AsyncAsrClient(...)` connects at once; otherwise the first call does. Cancelling a task cancels its call
    at the server.
    """

    def __init__(
        self, servers: str | Sequence[str] = "localhost:8001", config: ClientConfig | None = None, **settings: Any
    ) -> None:
        self._core: Core[Pool] = Core(servers, config, settings, _make_pool)
        self._starting: asyncio.Lock = asyncio.Lock()
        self._started = False
        self._upkeep_task: asyncio.Task[None] | None = None

    @property
    def config(self) -> ClientConfig:
        """The settings in force."""
        return self._core.config

    async def start(self) -> None:
        """Connect; raises ServerGone if no server can be reached. A second time does nothing."""
        async with self._starting:
            if self._started:
                return
            if self.config.pooling:
                if self.config.prewarm:
                    try:
                        await drive(self._core.upkeep.prewarm(), self._upkeep_step)
                    except AsrError:
                        await self.close()
                        raise
                self._upkeep_task = asyncio.create_task(_maintain(weakref.ref(self), self.config.probe_interval))
            self._started = True

    async def transcribe(
        self,
        audio: Audio,
        *,
        sample_rate: int = 16000,
        timeout: float | None = None,
        parameters: Mapping[str, Parameter] | None = None,
        request_id: str | None = None,
    ) -> Transcript:
        """As AsrClient.transcribe. Files are read and decoded in a thread."""
        if not self._started:
            await self.start()
        started = time.perf_counter()
        arguments = (audio, sample_rate, timeout, parameters, request_id)
        if isinstance(audio, str) or hasattr(audio, "__fspath__"):
            job = await asyncio.to_thread(self._core.prepare, *arguments)
        else:
            job = self._core.prepare(*arguments)

        async def perform(step: Attempt[Pool] | Pause) -> Any:
            if isinstance(step, Attempt):
                return await self._attempt(step, job)
            return await asyncio.sleep(step.seconds)

        answer = await drive(self._core.steps(job), perform)
        return self._core.transcript(job, answer, started)

    @overload
    def transcribe_many(
        self, audios: Iterable[Audio], *, concurrency: int = 8, return_errors: Literal[False] = False, **options: Any
    ) -> AsyncIterator[Transcript]: ...

    @overload
    def transcribe_many(
        self, audios: Iterable[Audio], *, concurrency: int = 8, return_errors: Literal[True], **options: Any
    ) -> AsyncIterator[Transcript | AsrError | OSError]: ...

    async def transcribe_many(
        self, audios: Iterable[Audio], *, concurrency: int = 8, return_errors: bool = False, **options: Any
    ) -> AsyncIterator[Transcript | AsrError | OSError]:
        """As AsrClient.transcribe_many. Ending the iteration (`aclose`) cancels what still runs."""
        free = asyncio.Semaphore(concurrency)
        running: deque[asyncio.Task[Transcript]] = deque()

        async def transcribe(audio: Audio) -> Transcript:
            async with free:
                return await self.transcribe(audio, **options)

        try:
            for audio in audios:
                running.append(asyncio.create_task(transcribe(audio)))
                if len(running) >= LOOKAHEAD * concurrency:
                    yield await _result(running[0], return_errors)
                    running.popleft()
            while running:
                yield await _result(running[0], return_errors)
                running.popleft()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            running.clear()

    async def health(self) -> list[ServerHealth]:
        """Ask every server now."""
        return await drive(self._core.upkeep.health(), self._upkeep_step)

    async def model_statistics(self) -> list[ModelStatistics]:
        """Triton's counters of all models of all servers. Raises AsrError."""
        return await drive(self._core.upkeep.model_statistics(), self._upkeep_step)

    def stats(self) -> list[EndpointStats]:
        """This client's view of each server: health, circuit, calls, pool."""
        return [EndpointStats.of(endpoint) for endpoint in self._core.endpoints]

    async def close(self) -> None:
        """Close all channels; calls still running fail with ClientClosed. A second time does nothing."""
        if self._upkeep_task is not None:
            self._upkeep_task.cancel()
            await asyncio.gather(self._upkeep_task, return_exceptions=True)
        self._started = True
        for endpoint in self._core.endpoints:
            with contextlib.suppress(AsrError):
                await drive(self._core.forget_regions(endpoint), self._upkeep_step)
            await endpoint.pool.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncAsrClient {', '.join(repr(endpoint.pool) for endpoint in self._core.endpoints)}>"

    async def _attempt(self, step: Attempt[Pool], job: Job) -> Answer:
        endpoint = step.permit.endpoint
        started = time.perf_counter()
        member = await endpoint.pool.acquire(min(self.config.pool.acquire_timeout, step.remaining))
        acquired = time.perf_counter()
        deadline = started + step.remaining
        broken = False
        try:
            response = await drive(
                self._core.rpcs(job, endpoint.address),
                lambda rpc: member.connection.call(*rpc, max(0.0, deadline - time.perf_counter())),
            )
        except ServerGone:
            broken = True
            raise
        except asyncio.CancelledError:
            with contextlib.suppress(AsrError):  # best effort: without it the server stops at the deadline
                await member.connection.call(*self._core.cancel_rpc(job), CANCEL_TIMEOUT)
            raise
        finally:
            await endpoint.pool.release(member, broken)
        return Answer(response, endpoint.address, step.number, acquired - started, time.perf_counter() - acquired)

    async def _upkeep_step(self, step: Step[Pool]) -> Any:
        """Carry out one step of the upkeep."""
        pool = step.endpoint.pool
        if isinstance(step, CloseExpired):
            return await pool.close_expired()
        if isinstance(step, Refill):
            for connection in pool.refill():
                await connection.connect(self.config.connect_timeout)
            return None
        member = pool.take_for_probe() if step.probe else await pool.acquire()
        if member is None:
            return None
        broken = False
        try:
            return await member.connection.call(step.method, step.request, self.config.connect_timeout)
        except ServerGone:
            broken = True
            raise
        finally:
            await pool.release(member, broken)


async def drive(generator: Generator[StepT, Any, ReturnT], perform: Callable[[StepT], Awaitable[Any]]) -> ReturnT:
    """As client.drive, awaiting each step."""
    with contextlib.closing(generator):
        try:
            step = next(generator)
            while True:
                try:
                    result = await perform(step)
                except AsrError as error:
                    step = generator.throw(error)
                else:
                    step = generator.send(result)
        except StopIteration as stop:
            value: ReturnT = stop.value
            return value


def _make_pool(address: str, config: ClientConfig) -> Pool:
    dialer = Dialer.of(config)
    return AsyncChannelPool(address, config.pool, lambda: dialer.async_connection(address))


async def _maintain(client: weakref.ref[AsyncAsrClient], interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        alive = client()
        if alive is None:
            return
        with contextlib.suppress(AsrError):
            await drive(alive._core.upkeep.maintain(), alive._upkeep_step)
        # The task must not keep the client alive while it waits.
        del alive


async def _result(task: asyncio.Task[Transcript], return_errors: bool) -> Transcript | AsrError | OSError:
    try:
        return await task
    except (AsrError, OSError) as error:
        if return_errors:
            return error
        raise
    finally:
        # As in call.steps: an error must not keep itself alive through this frame.
        del task
