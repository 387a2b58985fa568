"""What a stranger does with the wheels, in an environment that has nothing else: install, make the models, serve, transcribe.

`make test-release`: it takes minutes, and fetches what is not cached.
"""

import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

import asrloop
from asrloop.tritonserver.install import TritonInstallation
from asrloop.wheels import speech_detector, turn_network
from tests.conftest import BECKETT, ROOT, eventually, words
from tests.ports import free_ports
from tests.release.conftest import RELEASED

pytestmark = [pytest.mark.network, pytest.mark.slow]


class Bare:
    """An environment in a folder of its own, far from the project's tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.binaries = folder / "environment" / "bin"
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ASRLOOP", "VIRTUAL"))
        }
        self.environment = {**kept, "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "200"}

    def run(self, name: str, *arguments: object, seconds: float = 300.0) -> "subprocess.CompletedProcess[str]":
        command = [str(self.binaries / name), *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
        )


@pytest.fixture(scope="module")
def bare(
    tmp_path_factory: pytest.TempPathFactory, dist: Path, installation: TritonInstallation, assets: Path
) -> Iterator[Bare]:
    made = Bare(tmp_path_factory.mktemp("bare"))
    venv.create(made.binaries.parent, with_pip=True)
    wheels = [path for path in dist.glob("*.whl") if "client" not in path.name]
    (client,) = dist.glob("asrloop_client-*.whl")
    constraints = ("--constraint", ROOT / "constraints.txt")
    installed = made.run("pip", "install", "--find-links", dist, *constraints, *wheels, f"{client}[cli]", seconds=900)
    assert installed.returncode == 0, installed.stderr
    # What `asrloop models` and `asrloop serve` would fetch: here it is, because `installation` and `assets` have it.
    speech_detector(ROOT / ".cache")
    turn_network(ROOT / ".cache")
    cache = made.folder / "cache" / "asrloop"
    for name in ("nvidia-pytriton", "moonshine-voice", "silero-vad", "pipecat-ai"):
        (fetched,) = (ROOT / ".cache").glob(f"{name}-*")
        shutil.copytree(fetched, cache / fetched.name, symlinks=True, ignore=shutil.ignore_patterns("backends-*"))
    yield made
    shutil.rmtree(made.folder)


def test_it_installs_what_it_names_and_nothing_of_this_tree(bare: Bare) -> None:
    checked = bare.run("pip", "check")
    assert checked.returncode == 0, checked.stdout
    assert bare.run("asrloop", "--version").stdout == f"asrloop {asrloop.__version__}\n"
    where = bare.run(
        "python", "-c", "import asrloop, asrloop_client; print(asrloop.__file__, asrloop_client.__file__)"
    ).stdout
    assert str(ROOT) not in where
    listed = bare.run("pip", "list", "--format=freeze").stdout
    assert "asrloop-bench" not in listed
    assert len(RELEASED) == listed.count("asrloop")


def test_it_makes_models_serves_transcribes_and_stops(bare: Bare, beckett_path: Path) -> None:
    refused = bare.run("asrloop", "serve")
    assert refused.returncode == 1
    assert "no such model repository" in refused.stderr
    made = bare.run("asrloop", "models")
    assert made.returncode == 0, made.stderr
    alone = bare.run("asrloop", "transcribe", beckett_path)
    assert BECKETT in words(alone.stdout), alone.stderr
    http, grpc, metrics = free_ports()
    ports = [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
    log = bare.folder / "serve.log"
    with log.open("wb") as sink:
        serving = subprocess.Popen(
            [bare.binaries / "asrloop", "serve", *ports], cwd=bare.folder, env=bare.environment, stderr=sink
        )
    try:
        assert eventually(lambda: "Ctrl-C stops it" in log.read_text() or serving.poll() is not None, 120)
        healthy = bare.run("asrloop", "health", "--server", f"127.0.0.1:{http}")
        assert healthy.returncode == 0, healthy.stderr + log.read_text()
        said = bare.run("asr-client", "transcribe", beckett_path, "--server", f"127.0.0.1:{grpc}")
        assert BECKETT in words(said.stdout), said.stderr
    finally:
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(60) == 0, log.read_text()


def test_the_list_of_licences_is_that_of_what_is_installed(bare: Bare) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "write_licences.py"), "--check", str(bare.binaries / "python")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert checked.returncode == 0, checked.stderr
