"""What the examples' page shows works as it stands there."""

import subprocess
import sys
from pathlib import Path

import pytest

from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT, ROOT, words

EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("name", ["plain_triton_client.py", "blocking_client.py", "asyncio_client.py", "curl.sh"])
def test_an_example_prints_the_text(name: str, server: TritonServer, beckett_path: Path) -> None:
    address = server.http_endpoint if name == "curl.sh" else server.grpc_endpoint
    runner = [] if name == "curl.sh" else [sys.executable]
    command = [*runner, str(EXAMPLES / name), address, str(beckett_path)]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
    assert BECKETT in words(printed.decode("utf-8", errors="replace"))


def test_the_live_example_prints_the_words_while_they_are_spoken(server: TritonServer, beckett_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "live_client.py"), server.grpc_endpoint, str(beckett_path)]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout.decode()
    lines = [line.split("\r") for line in printed.split("\n")]
    assert words(" ".join(line[-1] for line in lines)) == BECKETT
    assert len(lines[0]) > 1, "no words before the segment's end"


def test_every_example_is_run_and_listed() -> None:
    files = {path.name for path in EXAMPLES.iterdir()} - {"README.md"}
    run_here = {"plain_triton_client.py", "blocking_client.py", "asyncio_client.py", "live_client.py", "curl.sh"}
    assert files == run_here | {"bulk_ray.py"}  # which tests/test_bulk.py runs
    assert all(f"]({name})" in (EXAMPLES / "README.md").read_text() for name in files)
