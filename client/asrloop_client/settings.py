"""Everything a caller may set: for a client, for the pool of a server, for one call. Checked here, used elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

from asrloop_client.errors import InvalidConfig, require

if TYPE_CHECKING:
    from asrloop_client.control.progress import Progress
    from asrloop_client.tls import TlsConfig

Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]
"""gRPC metadata with lower-case names, or a function that returns it for each call and probe, in a thread and in the caller's
context (tracing)."""

Parameter = str | bool | int | float

OnProgress = Callable[["Progress"], object]
"""Called in a thread of its own, and not again before it returns. What it raises is logged, and it is not called again; the call
goes on. Nothing waits for it: it may still run when the call has ended."""

_WEB, _PORT = re.compile(r"https?://"), re.compile(r":([0-9]+)$")
DEFAULT_SERVER = "localhost:8001"
SERVERS_VARIABLE, TOKEN_VARIABLE = "ASR_CLIENT_SERVERS", "ASR_CLIENT_TOKEN"
TOKEN_HEADER = "triton-grpc-protocol-token"  # noqa: S105 - a header's name
_NAME, _VALUE = re.compile(r"[0-9a-z_.-]+"), re.compile(r"[ -~]*")
"""Headers that gRPC sends."""
LONGEST = 7 * 86400.0
"""The longest time limit, in seconds."""


class SpeechOptions(TypedDict, total=False):
    """What a call or a live stream asks of the model. Servers and models that know none of it get nothing unless asked."""

    language: str | None
    """ISO 639-1 or BCP 47 code of what is spoken, such as "de"; "" or "auto" lets a multilingual model find it out."""
    prompt: str | None
    """Text that came before, for a model that takes one. Of a long one the end counts."""
    word_times: bool | None
    """True asks when each word was said and how sure it is. None asks too, but a call that is refused for it is repeated
    without."""
    key_terms: Sequence[str]
    """Names and words to expect, each on one line; the server says how many and how long they may be."""
    key_terms_boost: float | None
    """How strongly they are expected, 0..10; None leaves it to the server."""


class CallOptions(SpeechOptions, total=False):
    """Options of a single call."""

    model: str | None
    """Name of a recognizer that stands beside the server's default, such as "whisper"; None or "" for the default."""
    diarize: bool | Literal["channels"]
    """True asks who spoke, and tells speakers apart by their voices; "channels" makes each channel of a file a speaker. Both ask
    for times of words, too."""
    speakers: int | None
    """With `diarize=True`: most speakers that there are, 1..50; None leaves it to the voices."""
    task: str | None
    """"transcribe", or "translate" into English, which multilingual Whisper can."""
    sample_rate: float
    """Rate of samples in Hz (default 16000); files carry their own."""
    timeout: float | None
    """Seconds for everything: loading the audio, waiting, every attempt."""
    parameters: Mapping[str, Parameter] | None
    """Request parameters for the server."""
    headers: Mapping[str, str] | None
    """gRPC metadata of this call, added to the client's."""
    fail_fast: bool | None
    """Raise a failure at once when no other server can take the call, instead of waiting until the deadline."""
    on_progress: OnProgress | None
    """Called every half second with the Progress of a long recording."""
    request_id: str | None
    """The request's name in logs, the same in all its attempts; by default a new one."""


class Models(NamedTuple):
    """The Triton models of a recognizer."""

    samples: str
    file: str
    loop: str


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Bounds of the channel pool of one server; times are seconds."""

    min_channels: int = 5
    """Channels opened and connected before the first request, and kept when idle."""
    max_channels: int = 50
    calls_per_channel: int = 1
    """Calls that share a channel at the same time; a further channel is opened first, up to max_channels."""
    acquire_timeout: float = 0.5
    """A call with `fail_fast` waits so long for a channel before it raises PoolExhausted; others wait until their deadline."""
    idle_timeout: float = 300.0
    """Close channels idle for so long, and replace them up to min_channels: routers forget idle connections."""

    def __post_init__(self) -> None:
        given = f"min_channels is {self.min_channels} and max_channels {self.max_channels}"
        require(0 <= self.min_channels <= self.max_channels, f"{given}: give 0 <= min_channels <= max_channels")
        least = {"max_channels": 1, "calls_per_channel": 1, "acquire_timeout": 0, "idle_timeout": 0.001}
        for name, limit in least.items():
            value = getattr(self, name)
            require(value >= limit, f"{name} is {value}: give {limit} or more")


@dataclass(eq=False, repr=False)
class Settings:
    """Settings of a client. Times are seconds."""

    servers: str | Sequence[str] | None = None
    """One gRPC address `host:port` or several, in a list or separated by commas; default: the variable ASR_CLIENT_SERVERS, else
    localhost:8001."""
    _: KW_ONLY
    model: str = "asr_ensemble"
    """Takes samples (WAV)."""
    file_model: str = "asr_file"
    """Takes the bytes of a file (AUDIO)."""
    stream_model: str = "asr_stream"
    """Takes live audio, chunk by chunk."""
    loop_model: str = "decoder_loop"
    """Cancels by key."""
    timeout: float = 60.0
    """Time limit of one transcription, everything included."""
    server_timeout: float | None = None
    """Raise ServerGone, or ModelNotReady, when no server could take a call for so long; None waits until its deadline."""
    fail_fast: bool = False
    """Raise a failure at once when no other server can take the call, instead of waiting until the deadline."""
    prewarm: bool = True
    """Connect at the start: ServerGone if no server answers, ModelNotReady if none has loaded a model within `timeout`.
    False: the first call connects, and waits."""
    pooling: bool = True
    """False opens a channel per request and closes it after."""
    pool: PoolConfig | None = None
    probe_interval: float = 60.0
    """Between probes of a server that is in."""
    probe_timeout: float = 2.0
    """Time limit of a probe."""
    headers: Headers | None = None
    token: str | None = None
    """Default: the variable ASR_CLIENT_TOKEN."""
    token_header: str = TOKEN_HEADER
    """`--grpc-restricted-protocol=inference:KEY=TOKEN` wants `triton-grpc-protocol-KEY`."""
    tls: TlsConfig | None = None

    def __post_init__(self) -> None:
        if self.servers is None:
            self.servers = os.environ.get(SERVERS_VARIABLE) or DEFAULT_SERVER
        if self.token is None:
            self.token = os.environ.get(TOKEN_VARIABLE)
        require(bool(self.addresses), "no server was given: give one address `host:port` or a list of them")
        for address in self.addresses:
            _check(address)
        for name in ("timeout", "server_timeout", "probe_interval", "probe_timeout"):
            value = getattr(self, name)
            require(
                value is None or 0 < value <= LONGEST,
                f"{name} is {value} s: give more than 0 and at most {LONGEST:.0f}",
            )

    @property
    def addresses(self) -> list[str]:
        given = [self.servers] if isinstance(self.servers, str) else self.servers or ()
        return list(dict.fromkeys(address for each in given for address in each.replace(",", " ").split()))

    def all_headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the headers of a call, the token among them. Raises InvalidConfig."""
        token = {} if self.token is None else {self.token_header: self.token}
        try:
            own = self.headers() if callable(self.headers) else self.headers
            headers = {**(own or {}), **token, **(more or {})}
        except Exception as error:  # the caller's own function
            raise self.bad_headers(error) from error
        for name, value in headers.items():
            # gRPC's own error for them names neither.
            known = isinstance(name, str) and _NAME.fullmatch(name) is not None
            text = isinstance(value, str) and _VALUE.fullmatch(value) is not None
            binary = isinstance(value, bytes) and known and name.endswith("-bin")
            require(
                known and (text or binary),
                f"header {name!r:.80}: give a name of a-z, 0-9, _, - and ., and a value of printable ASCII characters",
            )
        return headers

    @staticmethod
    def bad_headers(error: BaseException) -> InvalidConfig:
        """Return the error for a function for headers that raised `error`."""
        return InvalidConfig(f"headers could not be made: {error!r}; give a mapping or a function")

    def models(self, recognizer: str | None) -> Models:
        """Return the Triton models of a recognizer, for None and "" those of these settings. Raises InvalidConfig."""
        require(isinstance(recognizer, str | None), f"model is {recognizer!r:.80}: give a str")
        if not recognizer:
            return Models(self.model, self.file_model, self.loop_model)
        return Models(recognizer, f"{recognizer}_file", f"{recognizer}_loop")

    def seconds(self, timeout: float | None) -> float:
        """Return the time limit of a call that asks for `timeout`. Raises InvalidConfig."""
        seconds = self.timeout if timeout is None else timeout
        if not isinstance(seconds, int | float) or not seconds <= LONGEST:
            raise InvalidConfig(f"timeout is {seconds!r}: give seconds, at most {LONGEST:.0f}")
        return seconds


def _check(address: str) -> None:
    """Raise InvalidConfig for what gRPC would take for another address: it wraps ports, and resolves URLs as names."""
    scheme = _WEB.match(address)
    if scheme:
        raise InvalidConfig(
            f"server {address!r:.80}: give the address of gRPC as host:port, without {scheme[0]}, and tls for TLS"
        )
    port = _PORT.search(address)
    require(
        port is None or 1 <= int(port[1]) <= 65535,
        f"server {address!r:.80}: its port is {port and port[1]}: give one from 1 to 65535",
    )
