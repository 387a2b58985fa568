"""One transcription, from its audio to its transcript: attempt after attempt until its deadline."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from asrloop_client.asked import asked
from asrloop_client.audio import Audio, EncodedFile, Pcm, is_slow, load
from asrloop_client.background.threads import in_thread
from asrloop_client.control.channel import LOG, headers_of
from asrloop_client.control.progress import reporting
from asrloop_client.endpoints import Endpoint
from asrloop_client.errors import AsrError, DeadlineExceeded, InvalidOption, ServerGone
from asrloop_client.servers import Search, Servers
from asrloop_client.settings import OnProgress, Parameter, SpeechOptions
from asrloop_client.transcript import Timings, Transcript
from asrloop_client.wire import Request, read_reply

_PATIENCE = (0.25, 2.0)
"""Bounds of `patience`, a quarter of the timeout, in seconds."""
_LARGE = 8 << 20
"""Messages of more bytes are put together in a thread."""


@dataclass(kw_only=True)
class _Call(Search):
    """One transcription under way, the same in all its attempts; times by time.monotonic()."""

    loop: str
    """The Triton model that decodes, which cancels and tells progress."""
    request: Request
    headers: Mapping[str, str]
    started: float
    timeout: float
    patience: float
    """Seconds without a reply after which the server is asked whether it is there."""
    on_progress: OnProgress | None
    is_own: bool
    """True when the length of the audio may be read from its header: bytes that were handed over may be a stranger's."""
    may_lack_word_times: bool
    """True when the times of words are left out where they are refused."""
    attempts: int = 0

    async def duration(self, response: Any) -> float | None:
        """Return the length of the audio, in seconds, for a server that does not say it; None where it is unknown."""
        says_it = any(output.name == "DURATION" for output in response.outputs)
        return None if says_it or not self.is_own else await in_thread(lambda: self.request.duration)


async def transcribe(
    servers: Servers,
    audio: Audio,
    *,
    sample_rate: float = 16000,
    timeout: float | None = None,
    parameters: Mapping[str, Parameter] | None = None,
    headers: Mapping[str, str] | None = None,
    fail_fast: bool | None = None,
    request_id: str | None = None,
    on_progress: OnProgress | None = None,
    diarize: bool | str = False,
    speakers: int | None = None,
    task: str | None = None,
    model: str | None = None,
    **speech: Unpack[SpeechOptions],
) -> Transcript:
    """Transcribe once; the options are those of CallOptions. Raises AsrError and nothing else."""
    settings, call = servers.settings, None
    started, seconds = time.monotonic(), settings.seconds(timeout)
    try:
        wanted = asked(parameters, task=task, diarize=diarize, speakers=speakers, **speech)
        async with asyncio.timeout(seconds):
            loaded = await in_thread(load, audio, sample_rate) if is_slow(audio) else load(audio, sample_rate)
            models = settings.models(model)
            asks = models.file if isinstance(loaded, EncodedFile) else models.samples
            call = _Call(
                model=asks,
                loop=models.loop,
                request=Request(loaded, asks, wanted, request_id or uuid.uuid4().hex),
                may_lack_word_times=speech.get("word_times", False) is None,
                headers=await headers_of(settings, headers),
                fail_fast=settings.fail_fast if fail_fast is None else fail_fast,
                started=started,
                timeout=seconds,
                patience=min(_PATIENCE[1], max(_PATIENCE[0], seconds / 4)),
                on_progress=on_progress,
                is_own=isinstance(loaded, Pcm) or not isinstance(audio, bytes | bytearray | memoryview),
            )
            return await _until_answered(servers, call)
    except AsrError:
        raise
    except TimeoutError:
        said = f"; the last error: {call.last}" if call and call.last else "."
        raise DeadlineExceeded(f"no reply within {seconds:.3g} s{said} Raise `timeout`.") from None


async def _until_answered(servers: Servers, call: _Call) -> Transcript:
    while True:
        endpoint = await servers.next_server(call)
        try:
            return await _attempt(servers, endpoint, call)
        except InvalidOption:
            if not (call.may_lack_word_times and call.request.forget("word_times")):
                raise
            call.tried.clear()  # this server refused the parameter, not the call
        except AsrError as error:
            if not await servers.may_go_on(error, endpoint, call):
                raise
            call.last = str(error)
            LOG.info("%s: attempt %d failed and is repeated: %s", call.request.request_id, call.attempts, error)


async def _attempt(servers: Servers, endpoint: Endpoint, call: _Call) -> Transcript:
    call.attempts += 1
    began = time.monotonic()
    with endpoint.calling(call.deaths):
        member = await endpoint.acquire(call.fail_fast)
        acquired = time.monotonic()
        reply: asyncio.Future[Any] | None = None
        broken = True
        try:
            with reporting(endpoint, call.request, call.loop, call.on_progress):
                remaining = max(0.001, call.started + call.timeout - acquired)
                build = call.request.serialised
                # At once: files that cannot be read to their end may hold all other threads, and each call has a channel by now.
                is_large = call.request.size > _LARGE
                message = await in_thread(build, remaining, at_once=True) if is_large else build(remaining)
                # gRPC's own limit is only a net: ours ends the call and tells the server.
                reply = asyncio.ensure_future(member.connection.infer(message, remaining + 0.5, call.headers))
                while not reply.done():
                    await asyncio.wait({reply}, timeout=call.patience)
                    # A long wait is no failure as long as the server answers its probe.
                    if not reply.done() and not await endpoint.answers(call.patience) and not reply.done():
                        raise ServerGone(
                            f"{endpoint.address}: no reply, and it does not answer its probe. It hangs or was cut off."
                        )
                response = reply.result()
            broken = False
        except AsrError as error:
            broken = isinstance(error, ServerGone)
            raise
        finally:
            if reply is not None and not reply.done():
                reply.cancel()
                endpoint.end_at_server(call.request.cancel_key, call.loop)
            endpoint.pool.release(member, broken, reuse=servers.settings.pooling)
            # An error must not keep its call, and by it a socket, alive through this frame.
            del reply, member
    duration = await call.duration(response)
    transcript, now = read_reply(response, endpoint.address, lambda: duration), time.monotonic()
    timings = Timings(total=now - call.started, acquire=acquired - began, call=now - acquired)
    return dataclasses.replace(transcript, timings=timings, attempts=call.attempts, request_id=call.request.request_id)
