"""Finding a tritonserver, or assembling the one in the nvidia-pytriton wheel. Does not start it."""

import ctypes
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from asrloop.wheels import TRITONSERVER

SUPPORTED_PYTHON = ((3, 11), (3, 12))
OLDEST_GLIBC = (2, 35)


class TritonError(RuntimeError):
    """tritonserver cannot run or did not start; the message is one line that says how to fix it."""


@dataclass(frozen=True)
class TritonInstallation:
    """A tritonserver binary, its backends and its environment."""

    binary: Path
    backends: Path
    environment: Mapping[str, str]
    """Environment variables to set in addition to the process's own."""

    origin: str

    def with_variables(self, variables: Mapping[str, str]) -> "TritonInstallation":
        """Return a copy with more environment variables."""
        return replace(self, environment={**self.environment, **variables})


OWN_BACKENDS = Path(__file__).with_name("backends")
"""Python-based backends, used where the server has no native one of that name."""


def find_or_assemble(cache: Path) -> TritonInstallation:
    """Return the tritonserver on PATH, or else the wheel's, unpacked below ``cache``.

    Raises TritonError for a machine that cannot run it, WheelError when the wheel cannot be fetched.
    """
    on_path = shutil.which("tritonserver")
    if on_path:
        binary = Path(on_path).resolve()
        natives = binary.parents[1] / "backends"
        if not natives.is_dir():
            raise TritonError(
                f"{binary}: no backends folder at {natives}: take this tritonserver off PATH to use the wheel's"
            )
        backends = _overlay(cache / "backends-of-path", natives)
        return TritonInstallation(binary, backends, _huge_pages(), f"on PATH: {binary}")
    _check_machine()
    library = _libpython_directory()
    root = TRITONSERVER.fetch(cache)
    server = root / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    backends = root / f"backends-{version}"  # one for each Python version: the stub must match the Python that runs it
    _copy_python_backend(backends / "python", server / "backends" / "python", server / "python_backend_stubs" / version)
    _overlay(backends, server / "backends")
    environment = {
        "LD_LIBRARY_PATH": _joined(root / "nvidia_pytriton.libs", library, os.environ.get("LD_LIBRARY_PATH")),
        # The stub embeds Python and finds the environment's packages through the first python3 on PATH.
        "PATH": _joined(Path(sys.prefix) / "bin", os.environ.get("PATH")),
        **_huge_pages(),
    }
    return TritonInstallation(
        server / "bin" / "tritonserver", backends, environment, f"{TRITONSERVER.name} {TRITONSERVER.version}"
    )


def _huge_pages() -> dict[str, str]:
    """Return what lets malloc (glibc 2.35) ask for pages of 2 MB: a step reads all weights, and finds each page faster then."""
    return {"GLIBC_TUNABLES": _joined("glibc.malloc.hugetlb=1", os.environ.get("GLIBC_TUNABLES"))}


def _joined(*parts: Path | str | None) -> str:
    return os.pathsep.join(str(part) for part in parts if part)


def _check_machine() -> None:
    """Raise TritonError where the wheel's tritonserver cannot run."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise TritonError(
            f"{system} on {machine}: the wheel's tritonserver runs on x86-64 Linux only: put another build on PATH"
        )
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else ()
    if numbers < OLDEST_GLIBC:
        raise TritonError(
            f"{name or 'no glibc'} {version}: the wheel's tritonserver needs glibc 2.35 or later (Debian 12, Ubuntu 22.04): "
            "use such a system or put a tritonserver on PATH"
        )
    oldest, newest = SUPPORTED_PYTHON
    if not oldest <= sys.version_info[:2] <= newest:
        raise TritonError(
            f"Python {platform.python_version()}: supported are 3.{oldest[1]} to 3.{newest[1]}: use one of them"
        )


def _libpython_directory() -> Path | None:
    """Return the folder of libpythonX.Y.so.1.0, which the Python stub links; None where the loader finds it by itself."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    directory = sysconfig.get_config_var("LIBDIR")
    if directory and Path(directory, name).exists():
        return Path(directory)
    try:
        ctypes.CDLL(name)
    except OSError:
        package = name.split(".so")[0]
        raise TritonError(
            f"{name} not found (looked in {directory} and the loader's paths): install the shared library of this Python "
            f"(Debian and Ubuntu: apt-get install {package}; pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared), then run again"
        ) from None
    return None


def _overlay(target: Path, natives: Path) -> Path:
    """Make a backend directory with links to the server's backends and, for missing names, to ours."""
    target.mkdir(parents=True, exist_ok=True)
    chosen = {
        path.name: path
        for source in (OWN_BACKENDS, natives)
        for path in source.iterdir()
        if path.is_dir() and path.name[0].isalpha()
    }
    for name, path in chosen.items():
        link = target / name
        if link.is_symlink() and link.readlink() != path:
            link.unlink()
        if not link.exists():
            link.symlink_to(path)
    return target


def _copy_python_backend(target: Path, backend: Path, stub: Path) -> None:
    """Copy the Python backend's library and stub into one folder: Triton refuses links out of it."""
    target.mkdir(parents=True, exist_ok=True)
    for path in (*backend.iterdir(), *stub.iterdir()):
        if not (target / path.name).exists():
            shutil.copy2(path, target / f"{path.name}.part")
            (target / f"{path.name}.part").replace(target / path.name)
