"""Client of asrloop: speech recognition on Triton through pooled gRPC channels, with typed errors."""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from asrloop_client.client import AsrClient, AsyncAsrClient
from asrloop_client.control.cancel import CancelToken
from asrloop_client.control.progress import Progress
from asrloop_client.errors import (
    AccessDenied,
    AsrError,
    Cancelled,
    ClientClosed,
    ClientForked,
    DeadlineExceeded,
    InvalidAudio,
    InvalidConfig,
    InvalidOption,
    ModelNotReady,
    Overloaded,
    PoolExhausted,
    ServerFailure,
    ServerGone,
    ServersDied,
    UnreadableFile,
)
from asrloop_client.settings import PoolConfig
from asrloop_client.transcript import Segment, Timings, Transcript, Word

logging.getLogger("asrloop_client").addHandler(logging.NullHandler())

__all__ = [
    "END_SEGMENT",
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
    "InvalidOption",
    "ModelNotReady",
    "Outcome",
    "Overloaded",
    "PoolConfig",
    "PoolExhausted",
    "Progress",
    "Segment",
    "ServerFailure",
    "ServerGone",
    "ServersDied",
    "Stream",
    "StreamEvent",
    "Timings",
    "TlsConfig",
    "Transcript",
    "UnreadableFile",
    "Word",
]
_LAZY = {
    "END_SEGMENT": "live",
    "AsyncStream": "live",
    "Outcome": "many",
    "Stream": "live",
    "StreamEvent": "live",
    "TlsConfig": "tls",
}
"""Names whose room is imported when they are first used."""


if TYPE_CHECKING:
    from asrloop_client.live import END_SEGMENT, AsyncStream, Stream, StreamEvent
    from asrloop_client.many import Outcome
    from asrloop_client.tls import TlsConfig
else:  # out of sight of type checkers, which would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
