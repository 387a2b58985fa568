"""A running call of ModelStreamInfer: requests and responses side by side. gRPC's errors leave as AsrError."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

from asrloop_client.channel import FAILURES, Connection
from asrloop_client.errors import AsrError, from_status


class StreamCall:
    """One call on a channel, which ends it when it closes. Raises AsrError."""

    def __init__(self, connection: Connection, headers: Mapping[str, str]) -> None:
        self._connection, self._headers = connection, headers
        self._was_connected = False
        begin = connection.method("ModelStreamInfer")
        try:
            self._call = begin(metadata=tuple(headers.items()))
            return
        except FAILURES as error:
            failure = connection.failure(error, headers)
        raise failure

    async def write(self, request: Any) -> bool:
        """Send a request; False when the call has ended, and `read` says why."""
        try:
            await self._call.write(request)
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            return False
        self._was_connected = self._was_connected or self._connection.is_connected
        return True

    async def is_lost(self) -> bool:
        """True when the connection broke while the server had the stream."""
        return self._was_connected and await self._connection.is_lost()

    async def finish(self) -> None:
        """Tell the server that no further request comes."""
        with contextlib.suppress(grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            await self._call.done_writing()

    async def read(self) -> Any:
        """Return the next response, or None at the end. Raises AsrError. Cancelling it cancels the call."""
        try:
            response = await self._call.read()
            if response is grpc.aio.EOF:
                return None
            if not response.error_message:
                return response.infer_response
            # Errors of a stream's requests are texts without a status; with its header `triton_grpc_error` Triton 24.10
            # sends a status, but loses the text.
            failure = from_status(grpc.StatusCode.UNKNOWN, response.error_message, self._connection.address)
        except FAILURES as error:
            failure = self._connection.failure(error, self._headers)
        raise failure

    async def drain(self, seconds: float) -> None:
        """Read the remaining responses for at most `seconds`, after `finish`."""
        with contextlib.suppress(TimeoutError, AsrError):
            async with asyncio.timeout(seconds):
                while await self.read() is not None:
                    pass

    def cancel(self) -> None:
        """End the call, if it has not ended."""
        self._call.cancel()
