"""The health check: what every server says now, and whether a transcription works."""

from __future__ import annotations

import asyncio
import time

from asrloop_client.audio import Audio, EncodedFile, load
from asrloop_client.background.threads import in_thread
from asrloop_client.control.state import ServerState, state_of
from asrloop_client.endpoints import Endpoint
from asrloop_client.errors import AsrError
from asrloop_client.servers import Servers
from asrloop_client.settings import Settings
from asrloop_client.wire import Request, read_reply


async def health(servers: Servers, deep: Audio | None = None) -> list[ServerState]:
    """Ask every server now; with `deep` also for the transcript of that audio."""
    return await asyncio.gather(*(_health(endpoint, servers.settings, deep) for endpoint in servers.endpoints))


async def _health(endpoint: Endpoint, settings: Settings, deep: Audio | None) -> ServerState:
    await endpoint.probe()
    found = state_of(endpoint)
    if found.ready:
        found.error = None  # of a call before
    if deep is not None and found.live:
        loaded, limit = await in_thread(load, deep, 16000), settings.timeout
        began = time.monotonic()
        model = settings.file_model if isinstance(loaded, EncodedFile) else settings.model
        try:
            request = Request(loaded, model, {}, "health").serialised(limit)
            read_reply(await endpoint.control.ask("ModelInfer", request, limit), endpoint.address)
            found.seconds = time.monotonic() - began
        except AsrError as error:
            found.models[model], found.error = False, str(error)
    return found
