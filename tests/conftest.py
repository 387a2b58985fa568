"""Fixtures: the prepared models, speech from the model's wheel, and real servers on free ports, each stopped by its process id."""

import fcntl
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from asrloop.config import ServerSettings
from asrloop.tritonserver.install import TritonInstallation, find_or_assemble
from asrloop.tritonserver.process import TritonServer
from asrloop.wheels import moonshine_assets
from tests.ports import free_ports

if TYPE_CHECKING:
    from tests.faults.harness import Speech

ROOT = Path(__file__).resolve().parents[1]
BECKETT = "ever tried ever failed no matter try again fail again fail better"
"""What is said in beckett.wav, as :func:`words` gives it. Commas are decided by int8 arithmetic, which differs between CPUs."""

PATIENT = {"ASRLOOP_LIVE__TURN_SECONDS": "20"}
"""The turn detector decides, however busy the machine is."""

SLOW_SECONDS = 1800
"""The time limit of a slow test that names none."""

# gRPC's own handlers of fork() abort one child in twenty that is forked while channels connect, before it starts its program.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# A shell that starts the tests in the background has them, and every server they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine makes no example wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before the time limit begins
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with place(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def place(*, alone: bool) -> Iterator[None]:
    """Run beside the tests of other processes or, when ``alone``, after they ended and before others begin."""
    folder = ROOT / ".cache"
    with (folder / "tests-wait").open("w") as waiting, (folder / "tests-run").open("w") as running:
        fcntl.flock(waiting, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(waiting, fcntl.LOCK_UN)
        yield


@pytest.fixture(scope="session")
def model_repository() -> Path:
    """The repository with the built models."""
    repository = ROOT / "model_repository"
    if not (repository / "decoder_loop" / "1" / "family.json").is_file():
        pytest.fail("the models are missing; make them with `make models`")
    return repository


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of the model's wheel with the vendor's weights and speech."""
    return moonshine_assets(ROOT / ".cache")


@pytest.fixture(scope="session")
def beckett_path(assets: Path) -> Path:
    """Ten seconds of speech, 16 kHz mono."""
    return assets / "beckett.wav"


@pytest.fixture(scope="session")
def beckett(beckett_path: Path) -> NDArray[np.float32]:
    """The samples of beckett.wav, f32 [N], 16 kHz."""
    samples, rate = soundfile.read(beckett_path, dtype="float32")
    assert rate == 16_000
    return np.asarray(samples, np.float32)


@pytest.fixture(scope="session")
def call(beckett: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two people who take turns, one a channel, f32 [N, 2], 16 kHz: each says beckett.wav, the second a second behind the first."""
    silence = np.zeros(beckett.size + 16_000, np.float32)
    return np.stack([np.concatenate([beckett, silence]), np.concatenate([silence, beckett])], axis=1)


@pytest.fixture(scope="session")
def call_path(call: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The call as a WAV file."""
    path = tmp_path_factory.mktemp("call") / "call.wav"
    soundfile.write(path, call, 16_000)
    return path


@pytest.fixture(scope="session")
def speech(beckett: NDArray[np.float32], beckett_path: Path) -> "Speech":
    """Requests that say beckett.wav."""
    from tests.faults.harness import Speech  # which needs this file

    return Speech(beckett, beckett_path.read_bytes())


class StartServer(Protocol):
    """Start a real server of a repository; keyword arguments set environment variables of it."""

    def __call__(
        self, repository: Path, extra_arguments: list[str] | None = None, **environment: str
    ) -> AbstractContextManager[TritonServer]: ...


@pytest.fixture(scope="session")
def installation() -> TritonInstallation:
    """The tritonserver that the tests run."""
    return find_or_assemble(ROOT / ".cache")


@pytest.fixture(scope="session")
def start_server(installation: TritonInstallation) -> StartServer:
    """A context manager that runs a real tritonserver on free ports."""

    @contextmanager
    def start(repository: Path, extra_arguments: list[str] | None = None, **environment: str) -> Iterator[TritonServer]:
        http, grpc, metrics = free_ports()
        settings = ServerSettings(http_port=http, grpc_port=grpc, metrics_port=metrics, stop_timeout_seconds=5)
        mine = installation.with_variables(environment)
        log: list[str] = []
        try:
            with TritonServer(
                mine, repository, settings, lambda level, text: log.append(text), extra_arguments or ()
            ) as server:
                yield server
                server.kill()  # in order it takes three seconds; tests of stopping call stop()
        finally:
            print("\n".join(log))

    return start


@pytest.fixture(scope="session")
def server(start_server: StartServer, model_repository: Path) -> Iterator[TritonServer]:
    """One real server of the project's repository for the whole run."""
    with start_server(model_repository, **PATIENT) as running:
        yield running


@pytest.fixture
def repository_copy(model_repository: Path, tmp_path: Path) -> Path:
    """A copy of the model repository to change, with the one for execution_mode bls beside it."""
    for name in ("model_repository", "bls_repository"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "model_repository"


def words(text: str) -> str:
    """``text`` in lower case without its marks."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    """Whether ``condition()`` becomes true before the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        is_over = time.monotonic() >= deadline  # it is looked at once more: the machine may have stood still meanwhile
        if condition():
            return True
        if is_over:
            return False
        time.sleep(0.02)
