"""gRPC channels, one socket each: options, credentials, calls. gRPC's errors leave as AsrError."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from asrloop_client.errors import AsrError, ClientClosed, InvalidConfig, ServerGone, from_status

if TYPE_CHECKING:
    from asrloop_client.tls import TlsConfig

_UNLIMITED = 2**31 - 1
_LOSS_SECONDS = 0.2

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", _UNLIMITED),
    ("grpc.max_receive_message_length", _UNLIMITED),
    # Without it channels of equal target and options share one socket, and the pool has no effect.
    ("grpc.use_local_subchannel_pool", 1),
    # Triton answers idle pings more often than every 300 s with GOAWAY, so pings go out during calls only. With keepalive
    # on, Linux also ends a connection whose data nobody acknowledges for keepalive_timeout.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # The pool closes idle channels; gRPC would drop the socket after 30 minutes and reconnect in the next call.
    ("grpc.client_idle_timeout_ms", _UNLIMITED),
    ("grpc.enable_retries", 0),
]

_HEADER_BYTES = 8 << 10
"""gRPC's servers refuse more headers than this now and then, and more than twice as much always."""

Dial = Callable[[str], "Connection"]

FAILURES = (grpc.RpcError, grpc.aio.UsageError, asyncio.CancelledError, TypeError, ValueError, AttributeError)
"""Exceptions that `Connection.failure` understands."""


def dialer(tls: TlsConfig | None) -> Dial:
    """Return a function that makes a connection to an address, in the running loop. Raises InvalidConfig for bad PEM files."""
    if tls is None:
        return lambda address: Connection(address, grpc.aio.insecure_channel(address, options=_OPTIONS))
    credentials, options = tls.credentials(), [*_OPTIONS, *tls.options()]
    return lambda address: Connection(address, grpc.aio.secure_channel(address, credentials, options=options))


class Connection:
    """One channel to one server, for the asyncio loop it was made in. Connects with its first call."""

    def __init__(self, address: str, channel: Any) -> None:
        self.address = address
        self._channel = channel
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        # Triton's generated stub, except that its ModelInfer takes serialised bytes (see wire).
        self._stub.ModelInfer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=None,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )

    def method(self, name: str) -> Any:
        """Return a method of gRPC's GRPCInferenceService. Raises ClientClosed."""
        if self._channel is None:
            raise self._was_closed()
        return getattr(self._stub, name)

    async def call(self, method: str, request: Any, timeout: float, headers: Mapping[str, str]) -> Any:
        """Call `method` within `timeout` s; cancelling the task cancels the call. Raises AsrError."""
        call = self.method(method)
        try:
            return await call(request, timeout=timeout, metadata=tuple(headers.items()))
        except FAILURES as error:
            failure = self.failure(error, headers)
        # Not raised where it is made: with gRPC's error as its context it would hold the call, and by it the socket.
        raise failure

    async def infer(self, message: bytes, timeout: float, headers: Mapping[str, str]) -> Any:
        """Call ModelInfer as `call` does; a ServerGone says whether the server had the request."""
        began = time.monotonic()
        connected = await self._connect(timeout)
        try:
            return await self.call("ModelInfer", message, max(0.001, timeout - (time.monotonic() - began)), headers)
        except ServerGone as error:
            error.had_request = connected and error.code is None and await self.is_lost()
            raise

    @property
    def is_connected(self) -> bool:
        """True while there is a connection to the server, or to a balancer before it."""
        return self._channel is not None and self._channel.get_state() is grpc.ChannelConnectivity.READY

    async def is_lost(self) -> bool:
        """True when the connection is gone, and not when a call was only answered with an error."""
        # A broken one fails its calls up to some milliseconds before it shows.
        until = time.monotonic() + _LOSS_SECONDS
        while self.is_connected and time.monotonic() < until:
            await asyncio.sleep(_LOSS_SECONDS / 20)
        return not self.is_connected

    async def _connect(self, timeout: float) -> bool:
        """Connect as a call would, and return whether there is a connection."""
        if self.is_connected or self._channel is None:
            return self._channel is not None
        state = self._channel.get_state(try_to_connect=True)
        with contextlib.suppress(TimeoutError, grpc.aio.UsageError):  # closed meanwhile
            async with asyncio.timeout(timeout):
                while state in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        return self.is_connected

    def failure(self, error: BaseException, headers: Mapping[str, str]) -> AsrError:
        """Return the AsrError for an error of gRPC; raises it again when it is the task that was cancelled."""
        if isinstance(error, grpc.RpcError):
            told = from_status(error.code(), error.details() or "", self.address)
            # gRPC has one status for a busy server and for headers that no server takes.
            size = sum(len(name) + len(value) + 32 for name, value in headers.items())
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and told.code is None and size > _HEADER_BYTES:
                return InvalidConfig(f"{told} The headers have {size} bytes; gRPC takes {_HEADER_BYTES}: send fewer.")
            return told
        if isinstance(error, TypeError | ValueError | AttributeError):
            return InvalidConfig(f"headers {sorted(map(str, headers))}: {error}; give lower-case names and text values")
        task = asyncio.current_task()
        # Closing the channel cancels its calls as if their tasks had been cancelled.
        closed = self._channel is None and task is not None and not task.cancelling()
        if isinstance(error, asyncio.CancelledError) and not closed:
            raise error
        return self._was_closed()

    async def close(self, grace: float | None = None) -> None:
        """Close the socket; calls still running end with ClientClosed, after at most `grace` s."""
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close(grace)

    def _was_closed(self) -> ClientClosed:
        return ClientClosed(f"{self.address}: the client was closed during the call.")
