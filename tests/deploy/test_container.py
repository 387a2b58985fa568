"""deploy/Dockerfile, built and run: it transcribes as a user without rights on a read-only root, and stops when it is told to.

`make test-container`: it takes minutes and needs root, mmdebstrap and runc.
"""

import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from asrloop_client import AsrClient

from asrloop.tritonserver import canary
from tests.conftest import BECKETT, ROOT, eventually, words
from tests.deploy import image
from tests.ports import free_ports

pytestmark = [pytest.mark.network, pytest.mark.slow]
GRACE_SECONDS = 30
"""What Kubernetes gives a container to end, and docker stop when told so."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[image.Image]:
    lacking = image.missing_tools()
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}")
    folder = tmp_path_factory.mktemp("image")
    # An sdist holds what a clean checkout does.
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (sdist,) = folder.glob("asrloop-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "context", filter="data")
    (context,) = (folder / "context").iterdir()
    yield image.build(context / "deploy" / "Dockerfile", context, folder)
    image.remove(folder)


def test_it_serves_as_nobody_on_a_read_only_root_and_stops_in_time(built: image.Image, beckett_path: Path) -> None:
    http, grpc, metrics = free_ports()
    variables = {
        "ASRLOOP_SERVER__HTTP_PORT": str(http),
        "ASRLOOP_SERVER__GRPC_PORT": str(grpc),
        "ASRLOOP_SERVER__METRICS_PORT": str(metrics),
    }

    def healthy(container: image.Container) -> bool:
        return container.execute(built.probe).returncode == 0

    with image.running(built, [*built.entrypoint, *built.command], **variables) as container:
        assert eventually(lambda: healthy(container) or container.process.poll() is not None, 90)
        assert container.process.poll() is None, container.process.communicate(timeout=10)[0]
        with AsrClient(f"127.0.0.1:{grpc}", timeout=30) as client:
            assert words(client.transcribe(beckett_path).text) == BECKETT
        rights = container.execute(
            ["sh", "-c", "id -u; cat /proc/1/status; touch /opt/asrloop/x || echo read-only"]
        ).stdout
        assert rights.startswith("10001\n")
        assert re.search(r"^CapEff:\s0+$", rights, re.MULTILINE)
        assert re.search(r"^CapBnd:\s0+$", rights, re.MULTILINE)
        assert rights.endswith("read-only\n")
        stub = container.execute(["sh", "-c", "kill -9 $(pidof tritonserver)"])
        assert stub.returncode == 0, stub.stderr
        assert eventually(lambda: healthy(container), 60), "not restarted"
        defunct = container.execute(["sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"])
        assert defunct.stdout.strip() == "0"
        told = time.monotonic()
        container.signal("TERM")
        assert container.process.wait(GRACE_SECONDS) == 0
        print(f"\nstopped {time.monotonic() - told:.1f} s after SIGTERM")
        assert container.process.stdout is not None
        said = container.process.stdout.read()
        assert "Stopped." in said
        assert "restarting the server" in said


def test_it_is_the_gateway_too(built: image.Image) -> None:
    (port,) = free_ports(1)
    arguments = ["gateway", "--server=127.0.0.1:1", f"--port={port}"]
    with image.running(built, [*built.entrypoint, *arguments]) as container:
        page = f"http://127.0.0.1:{port}/"

        def answers() -> bool:
            with suppress(OSError):
                return canary.get(page, 2)[0] == 200
            return False

        assert eventually(answers, 60)
        container.signal("TERM")
        assert container.process.wait(GRACE_SECONDS) == 0


def test_too_little_shared_memory_is_said(built: image.Image) -> None:
    with image.running(built, [*built.entrypoint, *built.command], shm_megabytes=16) as container:
        said, _ = container.process.communicate(timeout=60)
        assert container.process.returncode == 1
        assert "start the container with --shm-size=1g" in said


def test_it_holds_no_installer_and_no_source(built: image.Image) -> None:
    assert not list(built.root.glob("opt/asrloop/bin/pip*"))
    assert not (built.root / "src").exists()
    assert (built.root / "opt/asrloop/model_repository/decoder_loop/1/decoder.onnx").is_file()
