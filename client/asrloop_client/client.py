"""AsrClient, the blocking client; threads may share one."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from asrloop_client.audio import Audio
from asrloop_client.call import Attempt, Pause
from asrloop_client.cancel import CancelToken
from asrloop_client.channel import Connection, Dialer
from asrloop_client.config import ClientConfig
from asrloop_client.core import CANCEL_TIMEOUT, LOOKAHEAD, Answer, Core, Job
from asrloop_client.endpoints import EndpointStats
from asrloop_client.errors import AsrError, Cancelled, ServerGone
from asrloop_client.pool import ChannelPool
from asrloop_client.transcript import Transcript
from asrloop_client.upkeep import CloseExpired, ModelStatistics, Refill, ServerHealth, Step
from asrloop_client.wire import Parameter

StepT = TypeVar("StepT")
ReturnT = TypeVar("ReturnT")

Pool = ChannelPool[Connection]


class AsrClient:
    """Transcribes through one or several servers.

    `servers` is one gRPC address `host:port` or a list; `settings` are fields of ClientConfig and win over `config`:
    `AsrClient("localhost:8001", timeout=5)`. Connects at once and raises ServerGone if no server can be reached, unless
    `prewarm` or `pooling` is off.
    """

    def __init__(
        self, servers: str | Sequence[str] = "localhost:8001", config: ClientConfig | None = None, **settings: Any
    ) -> None:
        self._core: Core[Pool] = Core(servers, config, settings, _make_pool)
        self._stop = threading.Event()
        # Runs at the latest when the interpreter exits; it must not hold the client.
        self._finalizer = weakref.finalize(self, _shut_down, self._core, self._stop)
        if self.config.pooling:
            if self.config.prewarm:
                try:
                    drive(self._core.upkeep.prewarm(), self._upkeep_step)
                except AsrError:
                    self.close()
                    raise
            threading.Thread(
                target=_maintain,
                args=(weakref.ref(self), self._stop, self.config.probe_interval),
                name="asrloop-client-upkeep",
                daemon=True,
            ).start()

    @property
    def config(self) -> ClientConfig:
        """The settings in force."""
        return self._core.config

    def transcribe(
        self,
        audio: Audio,
        *,
        sample_rate: int = 16000,
        timeout: float | None = None,
        parameters: Mapping[str, Parameter] | None = None,
        request_id: str | None = None,
        cancel: CancelToken | None = None,
    ) -> Transcript:
        """Transcribe a file, the bytes of one, or samples [N] at `sample_rate` Hz, within `timeout` s.

        Repeated after a lost connection under the same `request_id`: a transcription changes nothing at the server, so
        it may be done twice. Raises AsrError, or OSError when the file cannot be read.
        """
        started = time.perf_counter()
        job = self._core.prepare(audio, sample_rate, timeout, parameters, request_id)

        def perform(step: Attempt[Pool] | Pause) -> Any:
            if isinstance(step, Attempt):
                if cancel is not None:
                    cancel.wait(0)
                return self._attempt(step, job, cancel)
            if cancel is None:
                return time.sleep(step.seconds)
            return cancel.wait(step.seconds)

        answer = drive(self._core.steps(job), perform)
        return self._core.transcript(job, answer, started)

    @overload
    def transcribe_many(
        self, audios: Iterable[Audio], *, concurrency: int = 8, return_errors: Literal[False] = False, **options: Any
    ) -> Iterator[Transcript]: ...

    @overload
    def transcribe_many(
        self, audios: Iterable[Audio], *, concurrency: int = 8, return_errors: Literal[True], **options: Any
    ) -> Iterator[Transcript | AsrError | OSError]: ...

    def transcribe_many(
        self, audios: Iterable[Audio], *, concurrency: int = 8, return_errors: bool = False, **options: Any
    ) -> Iterator[Transcript | AsrError | OSError]:
        """Transcribe all, at most `concurrency` at a time, and yield the results in order; `options` of `transcribe`.

        An error is raised in its place, or yielded with `return_errors`. Ending the iteration cancels what still runs.
        """
        cancel = CancelToken()
        running: deque[Future[Transcript]] = deque()
        with ThreadPoolExecutor(concurrency, thread_name_prefix="asrloop-client") as executor:
            try:
                for audio in audios:
                    running.append(executor.submit(self.transcribe, audio, cancel=cancel, **options))
                    if len(running) >= LOOKAHEAD * concurrency:
                        yield _result(running.popleft(), return_errors)
                while running:
                    yield _result(running.popleft(), return_errors)
            finally:
                cancel.cancel()

    def health(self) -> list[ServerHealth]:
        """Ask every server now."""
        return drive(self._core.upkeep.health(), self._upkeep_step)

    def model_statistics(self) -> list[ModelStatistics]:
        """Triton's counters of all models of all servers. Raises AsrError."""
        return drive(self._core.upkeep.model_statistics(), self._upkeep_step)

    def stats(self) -> list[EndpointStats]:
        """This client's view of each server: health, circuit, calls, pool."""
        return [EndpointStats.of(endpoint) for endpoint in self._core.endpoints]

    def close(self) -> None:
        """Close all channels; calls still running fail with ClientClosed. A second time does nothing."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<AsrClient {', '.join(repr(endpoint.pool) for endpoint in self._core.endpoints)}>"

    def _attempt(self, step: Attempt[Pool], job: Job, cancel: CancelToken | None) -> Answer:
        endpoint = step.permit.endpoint
        started = time.perf_counter()
        member = endpoint.pool.acquire(min(self.config.pool.acquire_timeout, step.remaining))
        acquired = time.perf_counter()
        deadline = started + step.remaining
        broken = False
        try:
            response = drive(
                self._core.rpcs(job, endpoint.address),
                lambda rpc: member.connection.call(*rpc, max(0.0, deadline - time.perf_counter()), cancel),
            )
        except ServerGone:
            broken = True
            raise
        except Cancelled:
            with contextlib.suppress(AsrError):  # best effort: without it the server stops at the deadline
                member.connection.call(*self._core.cancel_rpc(job), CANCEL_TIMEOUT)
            raise
        finally:
            endpoint.pool.release(member, broken)
        return Answer(response, endpoint.address, step.number, acquired - started, time.perf_counter() - acquired)

    def _upkeep_step(self, step: Step[Pool]) -> Any:
        return upkeep_step(step, self.config.connect_timeout)


def upkeep_step(step: Step[Pool], timeout: float) -> Any:
    """Carry out one step of the upkeep."""
    pool = step.endpoint.pool
    if isinstance(step, CloseExpired):
        return pool.close_expired()
    if isinstance(step, Refill):
        for connection in pool.refill():
            connection.connect(timeout)
        return None
    member = pool.take_for_probe() if step.probe else pool.acquire()
    if member is None:
        return None
    broken = False
    try:
        return member.connection.call(step.method, step.request, timeout)
    except ServerGone:
        broken = True
        raise
    finally:
        pool.release(member, broken)


def drive(generator: Generator[StepT, Any, ReturnT], perform: Callable[[StepT], Any]) -> ReturnT:
    """Carry out each step that `generator` yields and send it the result, or throw it the AsrError; returns its value.

    Any other exception closes the generator, which then gives back what it holds.
    """
    with contextlib.closing(generator):
        try:
            step = next(generator)
            while True:
                try:
                    result = perform(step)
                except AsrError as error:
                    step = generator.throw(error)
                else:
                    step = generator.send(result)
        except StopIteration as stop:
            value: ReturnT = stop.value
            return value


def _make_pool(address: str, config: ClientConfig) -> Pool:
    dialer = Dialer.of(config)
    return ChannelPool(address, config.pool, lambda: dialer.connection(address))


def _maintain(client: weakref.ref[AsrClient], stop: threading.Event, interval: float) -> None:
    while not stop.wait(interval):
        alive = client()
        if alive is None:
            return
        with contextlib.suppress(AsrError):
            drive(alive._core.upkeep.maintain(), alive._upkeep_step)
        # The thread must not keep the client alive while it waits.
        del alive


def _shut_down(core: Core[Pool], stop: threading.Event) -> None:
    stop.set()
    for endpoint in core.endpoints:
        with contextlib.suppress(AsrError):
            drive(core.forget_regions(endpoint), lambda step: upkeep_step(step, 1.0))
        endpoint.pool.close()


def _result(future: Future[Transcript], return_errors: bool) -> Transcript | AsrError | OSError:
    try:
        return future.result()
    except (AsrError, OSError) as error:
        if return_errors:
            return error
        raise
    finally:
        # As in call.steps: an error must not keep itself alive through this frame.
        del future
