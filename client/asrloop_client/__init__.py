"""Client of asrloop: speech recognition on Triton through pooled gRPC channels, with typed errors."""

import logging

from asrloop_client.client import AsrClient, AsyncAsrClient, CancelToken, Outcome
from asrloop_client.errors import (
    AccessDenied,
    AsrError,
    Cancelled,
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
    UnreadableFile,
)
from asrloop_client.settings import PoolConfig, TlsConfig
from asrloop_client.stream import AsyncStream, Stream
from asrloop_client.transcript import Progress, Segment, StreamEvent, Timings, Transcript, Word

logging.getLogger("asrloop_client").addHandler(logging.NullHandler())

__all__ = [
    "AccessDenied",
    "AsrClient",
    "AsrError",
    "AsyncAsrClient",
    "AsyncStream",
    "CancelToken",
    "Cancelled",
    "ClientClosed",
    "ClientForked",
    "DeadlineExceeded",
    "InvalidAudio",
    "InvalidConfig",
    "ModelNotReady",
    "Outcome",
    "Overloaded",
    "PoolConfig",
    "PoolExhausted",
    "Progress",
    "Segment",
    "ServerFailure",
    "ServerGone",
    "Stream",
    "StreamEvent",
    "Timings",
    "TlsConfig",
    "Transcript",
    "UnreadableFile",
    "Word",
]
