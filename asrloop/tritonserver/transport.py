"""Options of tritonserver for its connections: how often clients may ping, and how large a body over HTTP may be."""

import os
import subprocess
from functools import cache

from asrloop.tritonserver.install import TritonInstallation

PING_MILLISECONDS = 4_000
"""Shortest time between two pings. Clients and proxies ping every 5 s or more, give or take some hundred ms. By default Triton ends
connections that ping more often than every 5 minutes ("Too many pings"), and with them their running requests."""

LARGEST_BODY = 2**31 - 1
"""As over gRPC. Servers since 2.59 take 64 MB by default."""

HELP_SECONDS = 10


def connection_options(installation: TritonInstallation) -> list[str]:
    """Return the options for this server. Those that its version does not know are left out, for they would stop the start."""
    options = [
        f"--grpc-http2-min-recv-ping-interval-without-data={PING_MILLISECONDS}",
        # Without it gRPC counts a ping of a connection without calls as one too many, whatever the time between two.
        "--grpc-keepalive-permit-without-calls=1",
    ]
    body = "--http-max-input-size"
    if body in _help(str(installation.binary), tuple(installation.environment.items())):
        options.append(f"{body}={LARGEST_BODY}")
    return options


@cache
def _help(binary: str, environment: tuple[tuple[str, str], ...]) -> str:
    """Return the server's help, asked for once; "" where it gives none."""
    try:
        return subprocess.run(
            [binary, "--help"],
            env={**os.environ, **dict(environment)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            check=False, timeout=HELP_SECONDS,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
