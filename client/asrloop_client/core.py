"""What the two clients share: settings, servers, requests, and the generators that yield the next RPC."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from asrloop_client import wire
from asrloop_client.audio import Audio, EncodedFile, Pcm, load
from asrloop_client.breaker import Breaker
from asrloop_client.call import Attempt, Pause, Retry, steps
from asrloop_client.config import ClientConfig, PoolConfig
from asrloop_client.endpoints import Endpoint, Endpoints
from asrloop_client.errors import AsrError, InvalidAudio, ServerFailure, SharedMemoryFailed, UnknownRegion
from asrloop_client.shared_memory import Regions, require_local
from asrloop_client.transcript import Timings, Transcript, words_of
from asrloop_client.upkeep import Ask, Upkeep

PoolT = TypeVar("PoolT")

LOOKAHEAD = 4
"""transcribe_many starts at most this many times `concurrency` transcriptions ahead of the result it waits for."""
CANCEL_TIMEOUT = 1.0
"""Seconds for the call that tells the server to end a cancelled transcription."""

Rpc = tuple[str, Any]
"""A method of GRPCInferenceService and its request."""

_ONE_CALL_PER_CHANNEL = PoolConfig(min_channels=0, max_channels=2**31, reuse=False)


@dataclass(frozen=True)
class Job:
    """One transcription to do, the same in all its attempts."""

    pcm: Pcm | None
    """Set when it goes through shared memory; otherwise the audio is in `request`."""
    request: Any
    options: wire.Options


@dataclass(frozen=True)
class Answer:
    """A successful attempt: the ModelInferResponse, and the seconds it took."""

    response: Any
    endpoint: str
    attempts: int
    acquire: float
    call: float


class Core(Generic[PoolT]):
    """One client's state and decisions; the two clients do the waiting."""

    def __init__(
        self,
        servers: str | Sequence[str],
        config: ClientConfig | None,
        settings: Mapping[str, Any],
        make_pool: Callable[[str, ClientConfig], PoolT],
    ) -> None:
        config = dataclasses.replace(config or ClientConfig(), **settings)
        if not config.pooling:
            config = dataclasses.replace(config, pool=_ONE_CALL_PER_CHANNEL)
        self.config = config
        wire.keep_large_blocks()
        addresses = [servers] if isinstance(servers, str) else list(servers)
        self.regions: dict[str, Regions] = {}
        if config.shared_memory:
            for address in addresses:
                require_local(address)
                self.regions[address] = Regions()
        self.endpoints: Endpoints[PoolT] = Endpoints(
            [Endpoint(address, make_pool(address, config), Breaker(config.breaker)) for address in addresses]
        )
        self.upkeep = Upkeep(self.endpoints, config)
        self._retry = Retry(config.retry)

    def prepare(
        self,
        audio: Audio,
        sample_rate: int,
        timeout: float | None,
        parameters: Mapping[str, wire.Parameter] | None,
        request_id: str | None,
    ) -> Job:
        """Load `audio` and build its request. Raises InvalidAudio, or OSError for a file that cannot be read."""
        loaded = load(audio, sample_rate)
        options = wire.Options(
            parameters=parameters or {},
            request_id=request_id or uuid.uuid4().hex,
            cancel_key=uuid.uuid4().hex,
            timeout=self.config.timeout if timeout is None else timeout,
        )
        if isinstance(loaded, EncodedFile):
            return Job(None, wire.file_request(self.config.file_model, loaded.content, options), options)
        if self.config.shared_memory and loaded.samples.size > 0:
            return Job(loaded, None, options)
        request = wire.samples_request(self.config.model, loaded.samples, loaded.sample_rate, options)
        return Job(None, request, options)

    def steps(self, job: Job) -> Generator[Attempt[PoolT] | Pause, Answer, Answer]:
        """Attempts and pauses of one transcription."""
        return steps(self.endpoints, self._retry, job.options.timeout)

    def cancel_rpc(self, job: Job) -> Rpc:
        """The RPC that has the server end a transcription that its caller gave up."""
        return "ModelInfer", wire.cancel_request(self.config.loop_model, job.options.cancel_key)

    def rpcs(self, job: Job, address: str) -> Generator[Rpc, Any, Any]:
        """The RPCs of one attempt, each sent its response; returns the ModelInferResponse."""
        if job.pcm is None:
            return (yield "ModelInfer", job.request)
        pcm, regions = job.pcm, self.regions[address]
        region = regions.take(pcm.samples.nbytes)
        request = wire.region_request(self.config.model, region.name, pcm.samples.size, pcm.sample_rate, job.options)
        try:
            region.write(pcm.samples)
            if region.registered:
                # A server that was restarted has forgotten it.
                with contextlib.suppress(UnknownRegion):
                    return (yield "ModelInfer", request)
            try:
                yield "SystemSharedMemoryRegister", region.register_request()
            except (ServerFailure, InvalidAudio) as error:
                raise SharedMemoryFailed(f"{error} The server has to share this machine's /dev/shm.") from error
            region.registered = True
            return (yield "ModelInfer", request)
        finally:
            regions.give_back(region)

    def forget_regions(self, endpoint: Endpoint[PoolT]) -> Generator[Ask[PoolT], Any, None]:
        """The steps that unregister a server's shared memory; the segments are removed in any case."""
        regions = self.regions.get(endpoint.address)
        if regions is None:
            return
        try:
            for region in regions.registered():
                yield Ask(endpoint, "SystemSharedMemoryUnregister", region.unregister_request())
        except AsrError:
            return
        finally:
            regions.destroy()

    def transcript(self, job: Job, answer: Answer, started: float) -> Transcript:
        """The result; `started` is time.perf_counter() at the start of the call."""
        reply = wire.read_reply(answer.response, answer.endpoint)
        return Transcript(
            text=reply.text,
            tokens=reply.tokens,
            token_times=reply.token_times,
            words=words_of(reply.token_pieces, reply.token_times),
            timings=Timings(total=time.perf_counter() - started, acquire=answer.acquire, call=answer.call),
            endpoint=answer.endpoint,
            transport="grpc" if job.pcm is None else "shared_memory",
            attempts=answer.attempts,
            request_id=job.options.request_id,
        )
