"""The server that is measured: started for the run on free ports, or one that is running."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from asrloop import paths
from asrloop.config import Settings
from asrloop.tritonserver.checks import free_ports, listens_everywhere
from asrloop.tritonserver.install import find_or_assemble
from asrloop.tritonserver.process import TritonServer
from asrloop_bench.checkout import MODEL_REPOSITORY


@dataclass(frozen=True)
class Target:
    """Endpoints of a server, and its origin."""

    http: str
    grpc: str
    metrics_url: str
    origin: str
    pid: int | None = None
    """Process id of tritonserver where this run started it."""


def running(settings: Settings) -> Target:
    """Return the server on config.yaml's host and ports."""
    server = settings.server
    host = "127.0.0.1" if listens_everywhere(server.host) else server.host
    metrics = f"http://{host}:{server.metrics_port}/metrics"
    return Target(f"{host}:{server.http_port}", f"{host}:{server.grpc_port}", metrics, "a running server")


@contextmanager
def started(
    settings: Settings, *, more_repositories: Sequence[Path] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Target]:
    """Start a server of the project's repository, and of others beside it, on free ports; stop it afterwards.

    ``environment`` sets variables of it, such as ASRLOOP_ENGINE__SLOTS. Raises TritonError, WheelError.
    """
    ports = dict(zip(("http_port", "grpc_port", "metrics_port"), free_ports(), strict=True))
    own = settings.server.model_copy(update={**ports, "host": "127.0.0.1", "log_level": "error"})
    installation = find_or_assemble(paths.cache())
    installation = replace(installation, environment={**installation.environment, **(environment or {})})
    repositories = [f"--model-repository={path.resolve()}" for path in more_repositories]
    with TritonServer(installation, MODEL_REPOSITORY, own, lambda *_: None, repositories) as server:
        yield Target(server.http_endpoint, server.grpc_endpoint, server.metrics_url, installation.origin, server.pid)
