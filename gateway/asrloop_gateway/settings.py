"""Settings of the gateway: options of its command, or environment variables ASRLOOP_GATEWAY_<NAME>. Times are in seconds."""

from __future__ import annotations

import json
import os
import ssl
from pathlib import Path

from asrloop_client.settings import Settings as ClientSettings
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "ASRLOOP_GATEWAY_"
SHORTEST_KEY = 16
_REQUESTS_PER_MINUTE = 600
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Settings(BaseSettings):
    """All settings. Raises pydantic's ValidationError, a ValueError."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True)

    server: str = "localhost:8001"
    """Triton's gRPC address host:port, or several, separated by commas."""
    host: str = "127.0.0.1"
    """Address to listen on. Addresses that other machines can reach require API keys."""
    port: int = Field(9000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    tls_certificate: Path | None = None
    """PEM file with the certificate. Browsers allow the microphone only on https pages and on localhost."""
    tls_key: Path | None = None
    """PEM file with the private key."""
    keys_file: Path | None = None
    """File with API keys, one a line; lines that begin with # are comments."""
    keys: str = ""
    """More API keys, separated by commas."""
    allowed_origins: tuple[str, ...] = Field((), examples=[["https://example.org"]])
    """Origins of other hosts' pages that may call, such as https://example.org."""
    trusted_proxies: str = ""
    """Addresses or networks of proxies whose X-Forwarded-For is trusted, separated by commas."""
    language: str = "english"
    """What `verbose_json` names as the language where the servers do not know it."""

    models: str = ""
    """Names of the recognizers beside the default, separated by commas. Only for servers that keep their list of models closed."""
    model_aliases: dict[str, str] = Field({}, examples=[{"whisper-1": "whisper"}])
    """Other names that callers may use for these, such as {"whisper-1": "whisper"}. All other names mean the default."""

    upload_megabytes: float = Field(256, gt=0, le=2000)
    """Largest file, in MB."""
    upload_seconds: float = Field(600, gt=0)
    """Longest time that an upload may take."""
    idle_seconds: float = Field(30, gt=0)
    """Disconnect uploads and sockets that send nothing for this long."""
    session_seconds: float = Field(600, gt=0)
    """Disconnect realtime sessions that have no audio in their buffer and send nothing for this long."""
    audio_seconds: float = Field(14400, gt=0)
    """Longest time a socket may be open. The servers limit the audio of a file: `audio.max_seconds` in their config.yaml."""
    transcription_seconds: float = Field(600, gt=0)
    """Longest time from the end of an upload to its transcript, with the wait for memory."""
    server_seconds: float = Field(15, gt=0)
    """Longest wait for a server when none is ready, before a request is sent and while it is under way."""
    transcriptions: int = Field(256, ge=1)
    """Most uploads at once, from the first byte to the transcript; more are refused."""
    transcriptions_per_caller: int = Field(64, ge=1)
    """Most uploads at once of one API key, or of one address where no keys are set."""
    memory_megabytes: float = Field(1024, gt=0)
    """Memory for uploads that are being transcribed, each counted three times its size; others wait on disk.
    A quarter is for those of up to a thirty-second of it, a quarter of that for those of up to a 1024th."""
    disk_megabytes: float = Field(4096, gt=0)
    """Disk space in TMPDIR for all uploads in progress; more are refused."""
    disk_megabytes_per_caller: float = Field(1024, gt=0)
    """The same for all uploads of one API key, or of one address where no keys are set. A single upload may have more."""
    sockets: int = Field(256, ge=1)
    """Most open WebSockets."""
    sockets_per_caller: int = Field(64, ge=1)
    """Most open WebSockets of one API key, or of one address where no keys are set."""
    connections: int = Field(1024, ge=1)
    """Most open TCP connections, counted from the accept on; more are answered with 503, above twice as many closed."""
    requests_per_minute: int | None = Field(None, ge=1)
    """Most requests a minute with one API key, and from one address without a right key. By default 600, but no limit on the
    loopback without API keys."""
    drain_seconds: float = Field(30, ge=0)
    """Longest wait for running requests and sockets when the gateway stops; then they are told `closing`."""

    @field_validator("server")
    @classmethod
    def _reachable(cls, server: str) -> str:
        ClientSettings(server)
        return server

    @model_validator(mode="after")
    def _guarded(self) -> Settings:
        keys = self.all_keys()
        if not self.is_local and not keys:
            raise ValueError(
                f"host is {self.host}, which other machines can reach, and no API key is set: give --keys-file or "
                f"ASRLOOP_GATEWAY_KEYS (keys of {SHORTEST_KEY} characters or more), or listen on 127.0.0.1"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("TLS needs a certificate and a key: give both or neither")
        if self.tls_certificate is not None and self.tls_key is not None:
            _check_tls(self.tls_certificate, self.tls_key)
        return self

    @property
    def is_local(self) -> bool:
        """True when only this machine can reach the gateway."""
        return self.host in LOOPBACK or self.host.startswith("127.")

    @property
    def most_requests_per_minute(self) -> int | None:
        """Most requests a minute of one caller; None for any number."""
        if self.requests_per_minute is None and (not self.is_local or self.all_keys()):
            return _REQUESTS_PER_MINUTE
        return self.requests_per_minute

    @property
    def upload_bytes(self) -> int:
        """Largest file in bytes."""
        return int(self.upload_megabytes * 1e6)

    @property
    def recognizers(self) -> list[str]:
        """Names of `models`."""
        return [name.strip() for name in self.models.split(",") if name.strip()]

    def all_keys(self) -> list[str]:
        """Return all API keys. Raises ValueError for an unreadable file and for keys that are too short."""
        keys = [each.strip() for each in self.keys.split(",")]
        if self.keys_file is not None:
            try:
                keys += [line.strip() for line in self.keys_file.read_text(encoding="utf-8-sig").splitlines()]
            except OSError as error:
                raise ValueError(f"keys_file {self.keys_file} cannot be read: {error.strerror}") from error
        keys = [key for key in keys if key and not key.startswith("#")]
        if short := [key for key in keys if len(key) < SHORTEST_KEY]:
            raise ValueError(
                f"{len(short)} API key(s) have fewer than {SHORTEST_KEY} characters: make longer ones, "
                "for instance by `openssl rand -hex 16`"
            )
        return keys


def _check_tls(certificate: Path, key: Path) -> None:
    """Raise ValueError for files that the gateway could not serve https with."""
    for name, file in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            file.read_bytes()
        except OSError as error:
            raise ValueError(f"{name} {file} cannot be read: {error.strerror}") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise ValueError(
            f"tls_certificate {certificate} with tls_key {key} cannot be used: {error}: give a certificate and its key, "
            "without a password, as PEM files"
        ) from error


def wrong_variables() -> list[str]:
    """Return a line for each environment variable that pydantic-settings would ignore, or fail on without naming its value."""
    found = []
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX)):
        name, value = variable.removeprefix(PREFIX).lower(), os.environ[variable]
        field = Settings.model_fields.get(name)
        if field is None:
            found.append(
                f"environment variable {variable} matches no setting: remove it, or see docs/gateway.md for their names"
            )
        elif field.examples:
            try:
                json.loads(value)
            except ValueError:
                found.append(f"{name} = {value!r}: not JSON: write it as in '{json.dumps(field.examples[0])}'")
    return found
