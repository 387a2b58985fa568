"""The client's settings. All times are seconds; a value out of range is an InvalidConfig that names the limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asrloop_client.errors import InvalidConfig


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvalidConfig(message)


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Bounds of the channel pool of one server."""

    min_channels: int = 5
    """Channels opened and connected before the first request, and kept when idle."""
    max_channels: int = 50
    calls_per_channel: int = 1
    """Calls that share a channel at the same time; a further channel is opened first, up to max_channels."""
    acquire_timeout: float = 0.5
    """How long a call waits for a channel before it raises PoolExhausted."""
    idle_timeout: float = 300.0
    """Idle channels beyond min_channels are closed after this time."""
    max_age: float | None = None
    """Channels older than this are closed as soon as they are idle, and replaced; None for no limit."""
    reuse: bool = True
    """False closes each channel after its one call. Used by `pooling=False`, then min_channels is 0."""

    def __post_init__(self) -> None:
        lowest = 1 if self.reuse else 0
        _require(
            lowest <= self.min_channels <= self.max_channels,
            f"min_channels is {self.min_channels} and max_channels {self.max_channels}: "
            f"give {lowest} <= min_channels <= max_channels",
        )
        _require(self.max_channels >= 1, f"max_channels is {self.max_channels}: give 1 or more")
        _require(self.calls_per_channel >= 1, f"calls_per_channel is {self.calls_per_channel}: give 1 or more")
        _require(self.acquire_timeout >= 0, f"acquire_timeout is {self.acquire_timeout} s: give 0 or more")
        _require(self.idle_timeout >= 0, f"idle_timeout is {self.idle_timeout} s: give 0 or more")
        _require(self.max_age is None or self.max_age > 0, f"max_age is {self.max_age} s: give more than 0, or None")


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """Exponential backoff with full jitter, for retryable errors only and never beyond the call's deadline."""

    attempts: int = 4
    """Attempts of one call in all; 1 switches retries off."""
    base_delay: float = 0.05
    max_delay: float = 1.0

    def __post_init__(self) -> None:
        _require(self.attempts >= 1, f"attempts is {self.attempts}: give 1 or more")
        _require(
            0 <= self.base_delay <= self.max_delay,
            f"base_delay is {self.base_delay} s and max_delay {self.max_delay} s: give 0 <= base_delay <= max_delay",
        )


@dataclass(frozen=True, kw_only=True)
class BreakerConfig:
    """When a server that fails gets no more calls, and when it is tried again."""

    failures: int = 5
    """Consecutive failures that open the circuit."""
    open_seconds: float = 5.0
    """How long the circuit stays open before probes are let through."""
    probes: int = 1
    """Calls let through while the circuit is half open; it closes when all of them succeed."""

    def __post_init__(self) -> None:
        _require(self.failures >= 1, f"failures is {self.failures}: give 1 or more")
        _require(self.open_seconds >= 0, f"open_seconds is {self.open_seconds} s: give 0 or more")
        _require(self.probes >= 1, f"probes is {self.probes}: give 1 or more")


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """PEM files for TLS; with private_key and certificate_chain the client proves its identity too (mutual TLS)."""

    root_certificates: Path | str | None = None
    """Certificates trusted to sign the server's; None for the system's."""
    private_key: Path | str | None = None
    certificate_chain: Path | str | None = None
    server_name: str | None = None
    """The name to expect in the server's certificate when it differs from the address."""

    def __post_init__(self) -> None:
        _require(
            (self.private_key is None) == (self.certificate_chain is None),
            "mutual TLS takes both private_key and certificate_chain: give both or neither",
        )


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Settings of AsrClient and AsyncAsrClient."""

    model: str = "asr_ensemble"
    """Takes samples (WAV)."""
    file_model: str = "asr_file"
    """Takes the bytes of an audio file (AUDIO)."""
    loop_model: str = "decoder_loop"
    """Ends a request by its key: Triton does not pass a cancellation on to an ensemble's step that runs already."""
    timeout: float = 60.0
    """Deadline of one transcription, waiting for a channel and retries included."""
    prewarm: bool = True
    """Connect `pool.min_channels` to each server before the first request; an error if no server can be reached."""
    connect_timeout: float = 5.0
    probe_interval: float = 1.0
    """How often idle and aged channels are closed, pools refilled and servers probed."""
    pooling: bool = True
    """False opens a channel per request and closes it after."""
    shared_memory: bool = False
    """Pass samples through system shared memory; the server must run on this machine. There is no fallback to gRPC."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """gRPC metadata sent with every call; the keys must be lower case."""
    token: str | None = None
    token_header: str = "triton-grpc-protocol-token"  # noqa: S105  -- a header's name
    """`--grpc-restricted-protocol=inference:KEY=TOKEN` wants the header `triton-grpc-protocol-KEY`."""
    tls: TlsConfig | None = None
    pool: PoolConfig = field(default_factory=PoolConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    breaker: BreakerConfig = field(default_factory=BreakerConfig)

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout", "probe_interval"):
            value = getattr(self, name)
            _require(value > 0, f"{name} is {value} s: give more than 0")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers of every call, the token among them."""
        token = {} if self.token is None else {self.token_header: self.token}
        return tuple({**self.headers, **token}.items())
