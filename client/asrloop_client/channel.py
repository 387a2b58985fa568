"""gRPC channels, one socket each: options, credentials, calls. The only module that calls gRPC; its errors leave as AsrError."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from asrloop_client.errors import AsrError, ClientClosed, InvalidConfig, from_status
from asrloop_client.settings import TlsConfig

_UNLIMITED = 2**31 - 1

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


class Dialer:
    """Makes channels to servers; the files of the credentials are read once. InvalidConfig when one cannot be."""

    def __init__(self, tls: TlsConfig | None) -> None:
        self._options = list(_OPTIONS)
        self._credentials = None if tls is None else _credentials(tls)
        if tls is not None and tls.server_name is not None:
            self._options.append(("grpc.ssl_target_name_override", tls.server_name))

    def connection(self, address: str) -> Connection:
        """A connection for the running asyncio loop. It connects with its first call."""
        if self._credentials is None:
            return Connection(address, grpc.aio.insecure_channel(address, options=self._options))
        return Connection(address, grpc.aio.secure_channel(address, self._credentials, options=self._options))


def _credentials(tls: TlsConfig) -> Any:
    def read(name: str) -> bytes | None:
        path = getattr(tls, name)
        if path is None:
            return None
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise InvalidConfig(f"tls.{name} {path} cannot be read: {error.strerror}. Give a PEM file.") from error

    return grpc.ssl_channel_credentials(
        root_certificates=read("root_certificates"),
        private_key=read("private_key"),
        certificate_chain=read("certificate_chain"),
    )


_FAILURES = (
    grpc.RpcError,
    TypeError,
    ValueError,
    AttributeError,
    grpc.aio.UsageError,
    asyncio.CancelledError,
)


class Connection:
    """One channel to one server, for the asyncio loop it was made in."""

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
        self._closed = False

    async def call(self, method: str, request: Any, timeout: float, headers: Mapping[str, str]) -> Any:
        """Call `method` of GRPCInferenceService within `timeout` s; cancelling the task cancels it. Raises AsrError."""
        if self._closed:
            raise self._was_closed()
        failure: AsrError
        try:
            return await getattr(self._stub, method)(request, timeout=timeout, metadata=tuple(headers.items()))
        except _FAILURES as error:
            failure = self._failure(error, headers)
        # Not raised where it is made: with gRPC's error as its context it would hold the call, and by it the socket.
        raise failure

    def stream(self, headers: Mapping[str, str]) -> StreamCall:
        """A call of ModelStreamInfer. Raises AsrError."""
        if self._closed:
            raise self._was_closed()
        try:
            return StreamCall(self, self._stub.ModelStreamInfer(metadata=tuple(headers.items())))
        except _FAILURES as error:
            failure = self._failure(error, headers)
        raise failure

    def _failure(self, error: BaseException, headers: Mapping[str, str]) -> AsrError:
        """What `error` of gRPC means to a caller. A cancelled task stays one."""
        if isinstance(error, grpc.RpcError):
            return from_status(error.code(), error.details() or "", self.address)
        if isinstance(error, TypeError | ValueError | AttributeError):
            return InvalidConfig(
                f"headers {sorted(map(str, headers))}: {error}; give lower-case names and values of text"
            )
        task = asyncio.current_task()
        # Closing the channel cancels its calls as if their tasks had been cancelled.
        if isinstance(error, asyncio.CancelledError) and (not self._closed or task is None or task.cancelling()):
            raise error
        return self._was_closed()

    async def close(self, grace: float | None = None) -> None:
        """Close the socket, whoever still holds this; calls on it end with ClientClosed, after `grace` s if they have not yet."""
        self._closed = True
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close(grace)

    def _was_closed(self) -> ClientClosed:
        return ClientClosed(f"{self.address}: the client was closed during the call.")


class StreamCall:
    """A running call of ModelStreamInfer: requests and responses side by side."""

    def __init__(self, connection: Connection, call: Any) -> None:
        self._connection = connection
        self._call = call

    async def write(self, request: Any) -> bool:
        """Send one; False when the call has ended, and `read` says how."""
        try:
            await self._call.write(request)
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            return False
        return True

    async def finish(self) -> None:
        """Say that no further request comes."""
        with contextlib.suppress(grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            await self._call.done_writing()

    async def read(self) -> Any:
        """The next response, or None at the end. Raises AsrError. Cancelling it cancels the call."""
        try:
            response = await self._call.read()
            if response is grpc.aio.EOF:
                return None
            if not response.error_message:
                return response.infer_response
            # Errors of a stream's requests are texts without a status; with its header `triton_grpc_error` Triton 24.10
            # sends a status, but loses the text.
            failure = from_status(grpc.StatusCode.UNKNOWN, response.error_message, self._connection.address)
        except _FAILURES as error:
            failure = self._connection._failure(error, {})
        raise failure

    async def drain(self, seconds: float) -> None:
        """Read what is left, for a limited time, after `finish`."""
        with contextlib.suppress(TimeoutError, AsrError):
            async with asyncio.timeout(seconds):
                while await self.read() is not None:
                    pass

    def cancel(self) -> None:
        """End it, if it has not ended."""
        self._call.cancel()
