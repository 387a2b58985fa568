"""Progress of a long recording while the server works on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asrloop_client.control.channel import LOG
from asrloop_client.endpoints import Endpoint
from asrloop_client.errors import AsrError
from asrloop_client.wire import Request, numbers, outputs_of, strings

_SECONDS = 0.5
"""Between two reports."""


@dataclass(frozen=True)
class Progress:
    """How far the server is with a transcription."""

    request_id: str
    done: float
    """Seconds of audio that are transcribed."""
    known: float
    """Seconds of audio in all, as far as known."""
    text: str
    """The part of the transcript that is certain: it only grows, unless another server takes over."""


async def report(endpoint: Endpoint, request: Request, tell: Callable[[Progress], object]) -> None:
    """Ask how far `request` is and tell the caller, until the task is cancelled."""
    while True:
        await asyncio.sleep(_SECONDS)
        try:
            progress = read_progress(await endpoint.control.progress(request.cancel_key), request.request_id)
            if progress.known:
                tell(progress)
        except AsrError as error:
            LOG.debug("%s: no progress to be had: %s", endpoint.address, error)
        except Exception:  # the caller's own function
            LOG.exception("on_progress failed, and is not called again")
            return


def read_progress(response: Any, request_id: str) -> Progress:
    """Return the progress in a response; `known` is 0 when the server knows no such request."""
    outputs = outputs_of(response)
    done, known = (*numbers("f", outputs.get("PROGRESS", b"")), 0.0, 0.0)[:2]
    return Progress(request_id, done, known, "".join(strings(outputs.get("TRANSCRIPTS", b""))[:1]))
