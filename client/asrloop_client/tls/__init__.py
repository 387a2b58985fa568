"""TLS and mutual TLS: the files that a caller names, as credentials of gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from asrloop_client.errors import InvalidConfig, require


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
        require(
            (self.private_key is None) == (self.certificate_chain is None),
            "mutual TLS takes both private_key and certificate_chain: give both or neither",
        )

    def credentials(self) -> Any:
        """Read the files for a channel. Raises InvalidConfig."""
        files: dict[str, bytes | None] = {}
        for name in ("root_certificates", "private_key", "certificate_chain"):
            path = getattr(self, name)
            try:
                files[name] = None if path is None else Path(path).read_bytes()
            except OSError as error:
                raise InvalidConfig(f"tls.{name} {path} cannot be read: {error.strerror}. Give a PEM file.") from error
        return grpc.ssl_channel_credentials(**files)

    def options(self) -> list[tuple[str, Any]]:
        """Return the channel options of gRPC."""
        return [] if self.server_name is None else [("grpc.ssl_target_name_override", self.server_name)]
