"""The channel to one server for everything but transcriptions: which models it has, cancelling, progress."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from tritonclient.grpc import service_pb2

from asrloop_client.background.threads import in_thread
from asrloop_client.channel import Connection, Dial
from asrloop_client.control.cancel import CANCEL_TIMEOUT, control_request
from asrloop_client.errors import AsrError, Cancelled, DeadlineExceeded, ServerGone
from asrloop_client.settings import Settings

LOG = logging.getLogger("asrloop_client")
NO_ANSWER = (ServerGone, DeadlineExceeded, Cancelled)
"""Errors that say nothing about the server's models; all others are an answer."""


async def headers_of(settings: Settings, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the headers of a call; a function that makes them runs in a thread, in the caller's context.

    Raises InvalidConfig for all that the function raises, SystemExit too: its thread is ours.
    """
    if not callable(settings.headers):
        return settings.all_headers(more)
    try:
        return await in_thread(settings.all_headers, more)
    except (AsrError, asyncio.CancelledError):
        raise
    except BaseException as error:
        raise settings.bad_headers(error) from error


class ControlChannel:
    """Short calls beside the pool. Opened by its first call."""

    def __init__(self, address: str, dial: Dial, settings: Settings) -> None:
        self.address = address
        self.loop = settings.loop_model
        """The default's Triton model that decodes."""
        self._dial, self._settings = dial, settings
        self._connection: Connection | None = None

    async def ask(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """Call `method`, by default with the probe's time limit in seconds. Raises AsrError."""
        seconds = timeout or self._settings.probe_timeout
        try:
            async with asyncio.timeout(seconds):
                headers = await headers_of(self._settings)
        except TimeoutError:
            raise DeadlineExceeded(f"headers took over {seconds:.3g} s to make. Look at the function given.") from None
        self._connection = self._connection or self._dial(self.address)
        return await self._connection.call(method, request, seconds, headers)

    async def is_loaded(self, model: str) -> bool | None:
        """Return None when the server does not know the model. Raises AsrError when it does not answer, or refuses to."""
        if (await self.ask("ModelReady", service_pb2.ModelReadyRequest(name=model))).ready:
            return True
        try:
            index = await self.ask("RepositoryIndex", service_pb2.RepositoryIndexRequest())
        except NO_ANSWER:
            raise
        except (
            AsrError
        ):  # the index is closed to us: to all other questions Triton answers the same as for a wrong name
            return False
        return False if any(each.name == model for each in index.models) else None

    async def end(self, cancel_key: str, loop: str) -> None:
        """Have the Triton model `loop` end the request with this key."""
        try:
            request = control_request(loop, "cancel", cancel_key)
            await self.ask("ModelInfer", request, CANCEL_TIMEOUT)
        except AsrError as error:
            LOG.debug("%s: a request could not be cancelled: %s", self.address, error)

    async def progress(self, cancel_key: str, loop: str) -> Any:
        """Return the response of the Triton model `loop` that says how far the request with this key is. Raises AsrError."""
        return await self.ask("ModelInfer", control_request(loop, "progress", cancel_key))

    def drop(self) -> Connection | None:
        """Return the connection, for the caller to close; the next call opens another one."""
        dropped, self._connection = self._connection, None
        return dropped
