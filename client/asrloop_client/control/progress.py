"""Progress of a long recording while the server works on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from asrloop_client.background.threads import in_thread
from asrloop_client.control.channel import LOG
from asrloop_client.endpoints import Endpoint
from asrloop_client.errors import AsrError
from asrloop_client.wire import Request, numbers, outputs_of, strings

_SECONDS = 0.5
"""Between two reports."""


@dataclass(frozen=True)
class Progress:
    """Progress of one transcription at the server."""

    request_id: str
    done: float
    """Seconds of audio that are transcribed."""
    known: float
    """Seconds of audio in all, as far as known."""
    text: str
    """The part of the transcript that is certain: it only grows, unless another server takes over."""


@contextlib.contextmanager
def reporting(
    endpoint: Endpoint, request: Request, loop: str, tell: Callable[[Progress], object] | None
) -> Iterator[None]:
    """Tell the caller how far `request` is while the block runs."""
    reports = None if tell is None else asyncio.ensure_future(_report(endpoint, request, loop, tell))
    try:
        yield
    finally:
        if reports is not None:
            reports.cancel()


async def _report(endpoint: Endpoint, request: Request, loop: str, tell: Callable[[Progress], object]) -> None:
    while True:
        await asyncio.sleep(_SECONDS)
        try:
            progress = read_progress(await endpoint.control.progress(request.cancel_key, loop), request.request_id)
        except AsrError as error:
            LOG.debug("%s: progress is not available: %s", endpoint.address, error)
            continue
        if progress.known and not await in_thread(_told, tell, progress, at_once=True):
            return


def _told(tell: Callable[[Progress], object], progress: Progress) -> bool:
    """Call the caller's own function; False when it failed."""
    try:
        tell(progress)
    except BaseException:
        LOG.exception("on_progress failed, and is not called again")
        return False
    return True


def read_progress(response: Any, request_id: str) -> Progress:
    """Return the progress in a response; `known` is 0 when the server knows no such request."""
    outputs = outputs_of(response)
    done, known = (*numbers("f", outputs.get("PROGRESS", b"")), 0.0, 0.0)[:2]
    return Progress(request_id, done, known, "".join(strings(outputs.get("TRANSCRIPTS", b""))[:1]))
