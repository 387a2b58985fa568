"""gRPC channels, one socket each: options, credentials, and the two kinds of connection the pools hold.

The only module that calls gRPC; its errors leave as AsrError.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from asrloop_client.cancel import CancelToken
from asrloop_client.config import ClientConfig, TlsConfig
from asrloop_client.errors import AsrError, ClientClosed, InvalidConfig, from_status

_UNLIMITED = 2**31 - 1

_COMMON_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", _UNLIMITED),
    ("grpc.max_receive_message_length", _UNLIMITED),
]

_POOLED_OPTIONS: list[tuple[str, Any]] = [
    *_COMMON_OPTIONS,
    # Without it channels of equal target and options share one socket, and the pool has no effect.
    ("grpc.use_local_subchannel_pool", 1),
    # Triton answers idle pings more often than every 300 s with GOAWAY, so pings go out during calls only.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # The pool closes idle channels; gRPC would drop the socket after 30 minutes and reconnect in the next call.
    ("grpc.client_idle_timeout_ms", _UNLIMITED),
    # The pool replaces broken channels and the client paces its retries; gRPC's own backoff reaches two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
]


@dataclass(frozen=True)
class Dialer:
    """Makes channels to servers; the files of the credentials are read once."""

    options: list[tuple[str, Any]]
    credentials: Any
    metadata: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, config: ClientConfig) -> Dialer:
        """From the settings; InvalidConfig when a certificate file cannot be read."""
        options = list(_POOLED_OPTIONS if config.pooling else _COMMON_OPTIONS)
        if config.tls is not None and config.tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", config.tls.server_name))
        return cls(options, None if config.tls is None else _credentials(config.tls), config.metadata)

    def connection(self, address: str) -> Connection:
        """A connection for threads. It connects with its first call."""
        return Connection(address, self._channel(grpc, address), self.metadata)

    def async_connection(self, address: str) -> AsyncConnection:
        """A connection for the running asyncio loop. It connects with its first call."""
        return AsyncConnection(address, self._channel(grpc.aio, address), self.metadata)

    def _channel(self, module: Any, address: str) -> Any:
        if self.credentials is None:
            return module.insecure_channel(address, options=self.options)
        return module.secure_channel(address, self.credentials, options=self.options)


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


class Connection:
    """One channel to one server, for threads."""

    def __init__(self, address: str, channel: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self.address = address
        self._channel = channel
        self._stub = _stub(channel)
        self._metadata = metadata

    def call(self, method: str, request: Any, timeout: float, cancel: CancelToken | None = None) -> Any:
        """Call `method` of GRPCInferenceService with a deadline in `timeout` s. Raises AsrError."""
        function = getattr(self._stub, method)
        try:
            if cancel is None:
                return function(request, timeout=timeout, metadata=self._metadata)
            call = function.future(request, timeout=timeout, metadata=self._metadata)
            with cancel.stopping(call.cancel):
                return call.result()
        except grpc.FutureCancelledError:
            raise from_status(grpc.StatusCode.CANCELLED, "cancelled by the caller", self.address) from None
        except grpc.RpcError as error:
            raise _ours(error, self.address) from error
        except ValueError as error:
            raise _if_closed(error) from error

    def connect(self, timeout: float) -> None:
        """Connect now; any answer of the server will do. Raises an AsrError that is no answer."""
        try:
            self.call("ServerLive", service_pb2.ServerLiveRequest(), timeout)
        except AsrError as error:
            if not error.is_answer:
                raise

    def close(self) -> None:
        """Close the socket; calls still on it are cancelled."""
        self._channel.close()


class AsyncConnection:
    """One channel to one server, for the asyncio loop it was made in."""

    def __init__(self, address: str, channel: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self.address = address
        self._channel = channel
        self._stub = _stub(channel)
        self._metadata = metadata
        self._closed = False

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """As Connection.call; cancelling the task cancels the call at the server."""
        try:
            return await getattr(self._stub, method)(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _ours(error, self.address) from error
        except grpc.aio.UsageError as error:
            raise _if_closed(error) from error
        except asyncio.CancelledError:
            # Closing the channel cancels its calls as if their tasks had been cancelled.
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise ClientClosed(f"{self.address}: the client was closed during the call.") from None
            raise

    async def connect(self, timeout: float) -> None:
        """As Connection.connect."""
        try:
            await self.call("ServerLive", service_pb2.ServerLiveRequest(), timeout)
        except AsrError as error:
            if not error.is_answer:
                raise

    async def close(self) -> None:
        """Close the socket; calls still on it are cancelled."""
        self._closed = True
        await self._channel.close()


def _stub(channel: Any) -> Any:
    """Triton's generated stub, except that its ModelInfer takes serialised bytes (see wire)."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    stub.ModelInfer = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=None,
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )
    return stub


def _ours(error: Any, address: str) -> AsrError:
    details = error.details() or ""
    if error.code() is grpc.StatusCode.CANCELLED and "Channel closed" in details:
        return ClientClosed(f"{address}: the client was closed during the call.")
    return from_status(error.code(), details, address)


def _if_closed(error: Exception) -> Exception:
    return ClientClosed("the client is closed. Make a new one.") if "closed" in str(error) else error
