"""Checks before tritonserver starts. Each problem is a TritonError that says how to fix it."""

import contextlib
import errno
import itertools
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from asrloop.config import ServerSettings
from asrloop.recognizer import DEFAULT, command, recognizer
from asrloop.tritonserver import beside
from asrloop.tritonserver.install import TritonError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the Python backend keeps its segments, not a temporary file
LEAST_SHARED_MEMORY = 48 << 20
BLS_REPOSITORY = "bls_repository"
"""Folder beside the model repository with the models that execution_mode bls calls."""

_DESCRIBED = [re.compile(rf"^\s*{field}\b", re.MULTILINE) for field in ("input", "output", "max_batch_size")]
"""What Triton asks a model for whose configuration lacks it."""

_EXECUTION_MODE = re.compile(r'key:\s*"execution_mode"\s*value:?\s*{\s*string_value:\s*"(\w*)"')


def is_loopback(host: str) -> bool:
    """True when only this machine can reach a server that listens on ``host``."""
    return host in ("localhost", "::1") or host.startswith("127.")


def listens_everywhere(host: str) -> bool:
    """True when ``host`` stands for all addresses of the machine."""
    return host in ("0.0.0.0", "::", "*")  # noqa: S104 - compared, not bound


def overcommits() -> bool:
    """True when the kernel grants more address space than memory (proc(5), overcommit_memory), as large stacks need."""
    try:
        return Path("/proc/sys/vm/overcommit_memory").read_text(encoding="ascii").strip() != "2"
    except OSError:
        return True


def _address(host: str) -> str:
    """Return the IPv4 address of a host to listen on, which has several names. Raises TritonError."""
    try:
        if not host:
            raise OSError("it is empty")
        address = socket.gethostbyname(host)
        with socket.socket() as probe:
            probe.bind((address, 0))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TritonError(
            f"host {host!r}: {reason}: give an IPv4 address of this machine or its name, or 0.0.0.0 for all addresses, "
            "with --host or server.host"
        ) from None
    return address


def check_ports(settings: ServerSettings) -> None:
    """Raise TritonError unless the host is one of this machine and the three ports differ and are free."""
    address = _address(settings.host)
    ports = _ports(settings)
    if len(set(ports.values())) < len(ports):
        raise TritonError(f"ports {ports} are not all different: give each its own number")
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                fix = ": stop its user, or" if error.errno == errno.EADDRINUSE else ":"
                raise _taken(name, port, settings.host, f"{error.strerror}{fix}") from None


@contextlib.contextmanager
def claimed_ports(servers: Sequence[ServerSettings]) -> Iterator[None]:
    """Keep every other `asrloop serve` from the ports of ``servers``, also while they start and nobody listens. Raises TritonError.

    Each claim is an abstract socket (unix(7)): one process of a network namespace has it, and gives it back when it ends, however
    it does. It is of one address; who listens everywhere claims the loopback as well, and no other.
    """
    with contextlib.ExitStack() as claims:
        for settings in servers:
            check_ports(settings)
            address = _address(settings.host)  # a name may be too long for a claim
            addresses = [address, "127.0.0.1"] if listens_everywhere(address) else [address]
            for (name, port), one in itertools.product(_ports(settings).items(), addresses):
                claim = claims.enter_context(socket.socket(socket.AF_UNIX))
                try:
                    claim.bind(f"\0asrloop-{one}-{port}")
                except OSError:
                    why = "another asrloop serve has it: stop that one, or"
                    raise _taken(name, port, settings.host, why) from None
        yield


def _ports(settings: ServerSettings) -> dict[str, int]:
    return {"http": settings.http_port, "grpc": settings.grpc_port, "metrics": settings.metrics_port}


def _taken(name: str, port: int, host: str, why: str) -> TritonError:
    return TritonError(f"{name} port {port} on {host}: {why} choose another with --{name}-port")


def free_ports(count: int = 3) -> list[int]:
    """Return free ports of the loopback."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def check_shared_memory() -> None:
    """Raise TritonError when shared memory has too little room for the tensors that the models exchange."""
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < LEAST_SHARED_MEMORY:
        raise TritonError(
            f"{SHARED_MEMORY}: {free >> 20} MiB free, at least {LEAST_SHARED_MEMORY >> 20} are needed: "
            "start the container with --shm-size=1g, or remove files there"
        )


def checked_repositories(repository: Path) -> list[Path]:
    """Return the repositories to load: this one and, for execution_mode bls, the one beside it. Raises TritonError."""
    if not repository.is_dir():
        raise TritonError(f"{repository}: no such model repository: give an existing one with --model-repository")
    loop = DEFAULT.loop
    config = repository / loop / "config.pbtxt"
    wanted = _weights(repository, loop)
    repositories = [repository]
    mode = _EXECUTION_MODE.search(config.read_text(encoding="utf-8")) if config.is_file() else None
    if mode is not None and mode[1] == "bls":
        repositories.append(repository.parent / BLS_REPOSITORY)
        wanted += [repositories[1] / name / "1" / "model.onnx" for name in ("encoder", "decoder")]
    _require(wanted, "make them with `make models` or `asrloop models`")
    for name in beside.names_in(repository):
        fix = f"make them with `{command(name)}`, or do without it: `asrloop models --remove {name}`"
        _require(_weights(repository, recognizer(name).loop), fix)
    return repositories


def are_described(repositories: Sequence[Path]) -> bool:
    """True when the configurations say all: else Triton asks each model by a process of its own, which is half of a start."""
    models = [path for repository in repositories for path in repository.iterdir() if path.is_dir()]
    configs = [path / "config.pbtxt" for path in models]
    texts = [path.read_text(encoding="utf-8") if path.is_file() else "" for path in configs]
    return all(field.search(text) for text in texts for field in _DESCRIBED)


def _weights(repository: Path, loop: str) -> list[Path]:
    return [repository / loop / "1" / file for file in ("encoder.onnx", "decoder.onnx")]


def _require(files: Sequence[Path], fix: str) -> None:
    """Raise TritonError where files are missing."""
    if missing := [path for path in files if not path.is_file()]:
        raise TritonError(f"{' and '.join(map(str, missing))} missing; {fix}")
