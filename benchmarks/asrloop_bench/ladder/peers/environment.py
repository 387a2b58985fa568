"""Virtual environments of the peers, made once below the cache."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REQUIREMENTS = {
    "vendor_runtime": ("moonshine-voice==0.1.0", "soundfile"),
    # Beside the framework, what the parts of asrloop import that the service uses.
    "fastapi": ("fastapi", "uvicorn", "numpy>=1.26,<2", "onnxruntime", "soundfile", "soxr"),
}


class PeerError(RuntimeError):
    """A peer could not be installed or does not run; the message has the reason."""


def python_of(name: str, cache: Path) -> Path:
    """The interpreter of the peer's environment, which is made where it is missing or has other packages. Raises PeerError."""
    directory = cache / "peers" / name
    python = directory / "bin" / "python"
    complete = directory / "complete"
    contents = "\n".join(REQUIREMENTS[name])
    if not complete.is_file() or complete.read_text(encoding="utf-8") != contents:
        print(f"Installing {', '.join(REQUIREMENTS[name])} into {directory.name}'s own environment ...", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(directory)], name)
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS[name]], name)
        complete.write_text(contents, encoding="utf-8")
    return python


def _run(command: Sequence[str], name: str) -> None:
    result = subprocess.run(list(command), check=False, capture_output=True, text=True, timeout=900)
    if result.returncode:
        raise PeerError(f"peer {name}: {' '.join(command[:4])} ... failed: {result.stderr.strip().splitlines()[-1:]}")
