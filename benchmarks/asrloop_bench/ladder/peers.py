"""The environments of the peers, made once below the cache, and the FastAPI service in its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asrloop import paths
from asrloop.config import Settings
from asrloop.tritonserver.checks import free_ports
from asrloop_bench import processes
from asrloop_bench.checkout import PREPARED, ROOT

SERVICE = Path(__file__).resolve().parent / "fastapi_service.py"
START_SECONDS, INSTALL_SECONDS = 60.0, 900.0
REQUIREMENTS = {
    "vendor_runtime": ("moonshine-voice==0.1.0", "soundfile"),
    # Beside the framework, the imports of those parts of asrloop that the service uses.
    "aiperf": ("aiperf==0.13.0",),
    "fastapi": ("fastapi", "uvicorn", "numpy>=1.26,<2", "onnxruntime", "soundfile", "soxr"),
}


class PeerError(RuntimeError):
    """A peer could not be installed or does not run; the message has the reason."""


def python_of(name: str) -> Path:
    """Return the interpreter of the peer's environment, made where it is missing or has other packages. Raises PeerError."""
    directory = paths.cache() / "peers" / name
    python, complete = directory / "bin" / "python", directory / "complete"
    contents = "\n".join(REQUIREMENTS[name])
    if not complete.is_file() or complete.read_text(encoding="utf-8") != contents:
        print(f"Installing {', '.join(REQUIREMENTS[name])} into {name}'s own environment ...", flush=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in ([sys.executable, "-m", "venv", "--clear", str(directory)], [*pip, *REQUIREMENTS[name]]):
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            if done.returncode:
                reason = done.stderr.strip().splitlines()[-1:]
                raise PeerError(f"peer {name}: {' '.join(command[:4])} ... failed: {reason}")
        complete.write_text(contents, encoding="utf-8")
    return python


def environment(**variables: str) -> dict[str, str]:
    """Return the variables of this process, without those that lead a peer's interpreter to our packages, and ``variables``."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | variables


@contextmanager
def started(settings: Settings, workers: int) -> Iterator[int]:
    """Give the port of a service of so many processes, whose sessions have one thread. Raises PeerError."""
    (port,) = free_ports(1)
    numbers = map(str, (port, workers, 1, settings.audio.max_seconds))
    url = f"http://127.0.0.1:{port}/openapi.json"
    with processes.running(
        "the FastAPI service", [str(python_of("fastapi")), str(SERVICE), str(PREPARED), *numbers],
        lambda _: processes.answers(url), seconds=START_SECONDS, environment={**os.environ, "PYTHONPATH": str(ROOT)},
        error=PeerError,
    ):  # fmt: skip
        yield port
