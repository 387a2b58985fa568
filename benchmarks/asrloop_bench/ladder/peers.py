"""The environments of the peers, made once below the cache, and the services that run in them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asrloop import paths
from asrloop.tritonserver.checks import free_ports
from asrloop_bench import processes
from asrloop_bench.checkout import ROOT

SERVICES = {name: Path(__file__).resolve().parent / f"{name}_service.py" for name in ("fastapi", "faster_whisper")}
START_SECONDS, INSTALL_SECONDS = 60.0, 900.0
REQUIREMENTS = {
    "vendor_runtime": ("moonshine-voice==0.1.0", "soundfile"),
    "aiperf": ("aiperf==0.13.0",),
    "faster_whisper": ("faster-whisper==1.2.1", "fastapi", "uvicorn"),
    # Beside the framework, the imports of those parts of asrloop that the service uses.
    "fastapi": (
        "fastapi",
        "uvicorn",
        "numpy>=1.26,<2",
        "onnxruntime",
        "soundfile",
        "soxr",
        "pyyaml",
        "pydantic-settings",
    ),
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
def started(name: str, model: Path, *numbers: float) -> Iterator[int]:
    """Give the port of a peer's service, which takes the folder of its model, the port and the ``numbers``. Raises PeerError."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/openapi.json"
    with processes.running(
        f"the service {name}", [str(python_of(name)), str(SERVICES[name]), str(model), *map(str, (port, *numbers))],
        lambda _: processes.answers(url), seconds=START_SECONDS, environment={**os.environ, "PYTHONPATH": str(ROOT)},
        error=PeerError,
    ):  # fmt: skip
        yield port
