"""Client of asrloop: speech recognition on Triton through pooled gRPC channels, with typed errors."""

from asrloop_client.aio import AsyncAsrClient
from asrloop_client.cancel import CancelToken
from asrloop_client.client import AsrClient
from asrloop_client.config import BreakerConfig, ClientConfig, PoolConfig, RetryConfig, TlsConfig
from asrloop_client.errors import (
    AccessDenied,
    AsrError,
    Cancelled,
    CircuitOpen,
    ClientClosed,
    ClientForked,
    DeadlineExceeded,
    InvalidAudio,
    InvalidConfig,
    ModelNotReady,
    Overloaded,
    PoolExhausted,
    ServerFailure,
    ServerGone,
    SharedMemoryFailed,
)
from asrloop_client.transcript import Timings, Transcript, Word

__all__ = [
    "AccessDenied",
    "AsrClient",
    "AsrError",
    "AsyncAsrClient",
    "BreakerConfig",
    "CancelToken",
    "Cancelled",
    "CircuitOpen",
    "ClientClosed",
    "ClientConfig",
    "ClientForked",
    "DeadlineExceeded",
    "InvalidAudio",
    "InvalidConfig",
    "ModelNotReady",
    "Overloaded",
    "PoolConfig",
    "PoolExhausted",
    "RetryConfig",
    "ServerFailure",
    "ServerGone",
    "SharedMemoryFailed",
    "Timings",
    "TlsConfig",
    "Transcript",
    "Word",
]
