"""What the gateway can be told: options of its command, or the environment, ASRLOOP_GATEWAY_<NAME>. Times are seconds."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SHORTEST_KEY = 16
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Settings(BaseSettings):
    """Every limit of the gateway. Raises pydantic's ValidationError, a ValueError."""

    model_config = SettingsConfigDict(
        env_prefix="ASRLOOP_GATEWAY_", extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    server: str = "localhost:8001"
    """Triton's gRPC address host:port, or several with commas between."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own wants keys."""
    port: int = Field(9000, ge=0, le=65535)
    """0 takes one that is free."""
    tls_certificate: Path | None = None
    """PEM file. Browsers give the microphone only to pages of https, or of this machine."""
    tls_key: Path | None = None
    """PEM file."""
    keys_file: Path | None = None
    """One key a line; a line that begins with # is a comment."""
    keys: str = ""
    """Keys with commas between, besides those of the file."""
    allowed_origins: tuple[str, ...] = ()
    """Pages of other hosts that may call, such as https://example.org."""
    trusted_proxies: str = ""
    """Addresses, with commas between, whose X-Forwarded-For says who calls."""
    language: str = "english"
    """What the served model speaks, for `verbose_json`."""

    upload_megabytes: float = Field(256, gt=0, le=2000)
    """Of one file."""
    upload_seconds: float = Field(600, gt=0)
    """For the whole of an upload."""
    idle_seconds: float = Field(30, gt=0)
    """An upload or a socket from which nothing comes for so long is ended."""
    audio_seconds: float = Field(14400, gt=0)
    """Longest sound of an upload, and longest stream."""
    transcription_seconds: float = Field(600, gt=0)
    """From the end of the upload to the answer."""
    server_seconds: float = Field(15, gt=0)
    """How long to wait for a server when none is there."""
    transcriptions: int = Field(256, ge=1)
    """Uploads that are read, wait or are transcribed at once."""
    memory_megabytes: float = Field(1024, gt=0)
    """Uploads that are being transcribed hold at most so much memory together, three times their size; others wait on the disk."""
    disk_megabytes: float = Field(4096, gt=0)
    """Of all uploads that are under way, in TMPDIR; beyond it the next are refused."""
    sockets: int = Field(256, ge=1)
    """WebSockets at a time."""
    sockets_per_caller: int = Field(64, ge=1)
    """Of one key, or without keys of one address."""
    connections: int = Field(1024, ge=1)
    """TCP connections at a time; one more is answered with 503."""
    requests_per_minute: int = Field(600, ge=1)
    """Of one key, and of one address."""
    drain_seconds: float = Field(30, ge=0)
    """How long requests and sockets may take to end when the gateway stops."""

    @model_validator(mode="after")
    def _guarded(self) -> Settings:
        keys = self.all_keys()
        if not self.is_local and not keys:
            raise ValueError(
                f"host is {self.host}, which other machines reach, and there is no key: give --keys-file or "
                f"ASRLOOP_GATEWAY_KEYS (keys of {SHORTEST_KEY} characters or more), or listen on 127.0.0.1"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("TLS takes a certificate and a key: give both or neither")
        return self

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in LOOPBACK or self.host.startswith("127.")

    @property
    def upload_bytes(self) -> int:
        """The limit of a body."""
        return int(self.upload_megabytes * 1e6)

    def all_keys(self) -> list[str]:
        """Raises ValueError for a file that cannot be read and for keys that are too short."""
        keys = [each.strip() for each in self.keys.split(",")]
        if self.keys_file is not None:
            try:
                keys += [line.strip() for line in self.keys_file.read_text(encoding="utf-8-sig").splitlines()]
            except OSError as error:
                raise ValueError(f"keys_file {self.keys_file} cannot be read: {error.strerror}") from error
        keys = [key for key in keys if key and not key.startswith("#")]
        if short := [key for key in keys if len(key) < SHORTEST_KEY]:
            raise ValueError(
                f"{len(short)} key(s) have fewer than {SHORTEST_KEY} characters: make longer ones, "
                "for instance by `openssl rand -hex 16`"
            )
        return keys
