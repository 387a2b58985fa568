"""What killed servers leave in shared memory is removed at the next start, and nothing that anybody may still use."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asrloop.tritonserver import segments
from asrloop.tritonserver.segments import REGION, Segments, remove_left_over
from tests.conftest import eventually
from tests.faults.harness import Serving, Speech


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(segments, "SHARED_MEMORY", tmp_path)
    return tmp_path


DIES = """
import os, sys
from pathlib import Path
from asrloop.tritonserver import segments
segments.SHARED_MEMORY = Path(sys.argv[1])
made = segments.Segments(8001)
(segments.SHARED_MEMORY / f"{made.prefix}region").write_bytes(bytes(1000))
if sys.argv[2] == "leaves a process":
    os.set_inheritable(made.lock, True)
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    print(child, flush=True)
os._exit(9)
"""


def died(folder: Path, how: str) -> int:
    """Run a server that leaves a segment; return the process that it leaves, 0 for none."""
    command = [sys.executable, "-c", DIES, str(folder), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
    return int(line or 0)


def test_what_a_killed_server_leaves_is_removed(folder: Path) -> None:
    died(folder, "alone")
    assert len(list(folder.iterdir())) == 2
    assert remove_left_over() == 1000
    assert not list(folder.iterdir())


def test_a_process_of_a_killed_server_keeps_its_segments(folder: Path) -> None:
    process = died(folder, "leaves a process")
    try:
        assert remove_left_over() == 0
        assert len(list(folder.iterdir())) == 2
    finally:
        os.kill(process, signal.SIGKILL)
    assert eventually(lambda: remove_left_over() == 1000)


def test_what_is_in_use_and_what_is_not_ours_stays(folder: Path) -> None:
    living = Segments(8001)
    names = [
        f"{living.prefix}region",
        f"{REGION}1234_8001_region",  # another program's, or an older version's
        f"{REGION}1234_8001_deadbeef_region",  # without a lock
        "triton_python_backend_shm_region_lock",  # would be the lock of all
        "other_1_2_deadbeef_lock",
    ]
    for name in names:
        (folder / name).touch()
    target = folder / "target"
    target.write_text("x")
    (folder / f"{REGION}1_2_deadbeef_lock").symlink_to(target)
    before = {path.name for path in folder.iterdir()}
    assert remove_left_over() == 0
    assert {path.name for path in folder.iterdir()} == before
    living.remove()
    living.remove()
    assert {path.name for path in folder.iterdir()} == before - {names[0], f"{living.prefix}lock"}


def test_servers_of_the_same_process_and_port_have_names_of_their_own(folder: Path) -> None:
    """In containers that share the folder every server is process 1."""
    first, second = Segments(8001), Segments(8001)
    assert first.prefix != second.prefix
    first.remove()
    assert [path.name for path in folder.iterdir()] == [f"{second.prefix}lock"]
    second.remove()


@pytest.fixture
def serving(tmp_path: Path, model_repository: Path) -> Iterator[Serving]:
    running = Serving(tmp_path / "serve.log")
    yield running
    running.stop()


def ours(port: int) -> set[str]:
    return {path.name for path in segments.SHARED_MEMORY.glob(f"{REGION}*_{port}_*")}


@pytest.mark.slow
def test_the_next_start_removes_what_a_kill_of_everything_left(serving: Serving, speech: Speech) -> None:
    serving.wait(speech)
    before = ours(serving.grpc)
    processes = serving.processes()
    for process in processes.values():
        links = {link.readlink().name for link in Path(f"/proc/{process}/fd").iterdir()}
        assert any(link.endswith("_lock") for link in links), "every process of the server holds the lock"
    for process in (serving.process.pid, *processes.values()):
        os.kill(process, signal.SIGKILL)
    serving.process.wait()
    assert len(before) == 4
    assert ours(serving.grpc) == before
    serving.start()
    serving.wait(speech)
    assert len(ours(serving.grpc)) == 4
    assert not ours(serving.grpc) & before
    assert "of shared memory that a killed server left behind" in serving.said()
