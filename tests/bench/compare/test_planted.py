"""The gate finds slowdowns that were planted in a throw-away worktree, where they are, and is silent without. `make test-gate`."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from asrloop_bench.compare.tree import TREES, environment

from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.alone]

CELLS = "1s-1,10s-1,client-1s-1"
ENGINE, CLIENT, SHARED = (
    "asrloop/engine/engine.py",
    "client/asrloop_client/client.py",
    "asrloop/onnx_files/sessions.py",
)
SLOWED = """

def _planted(call):
    import time

    def slowed(*args, **named):
        began = time.monotonic()
        result = call(*args, **named)
        time.sleep({delay})
        return result

    return slowed

"""
FIXED, SHARE = "0.010", "0.10 * (time.monotonic() - began)"
IN_FAMILY = """
def _plant(init):
    def planted(self, family, *args, **named):
        for call in "{calls}".split():
            setattr(family, call, _planted(getattr(family, call)))
        init(self, family, *args, **named)
    return planted

Engine.__init__ = _plant(Engine.__init__)
"""
IN_CLIENT = "AsrClient.transcribe = _planted(AsrClient.transcribe)\n"
IN_GRAPHS = """
_open = open_session

def open_session(*args, **named):
    session = _open(*args, **named)
    session.run, session.run_with_iobinding = _planted(session.run), _planted(session.run_with_iobinding)
    return session
"""


@pytest.fixture(scope="module")
def commit() -> str:
    """What is compared with, whatever is committed meanwhile."""
    return git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def worktree(commit: str) -> Iterator[Path]:
    """A worktree of HEAD with an environment of its own."""
    folder = TREES / "planted"
    if not (folder / ".git").exists():
        git("worktree", "prune")
        git("worktree", "add", "--force", "--detach", str(folder), commit)
    git("checkout", "--force", "--detach", commit, folder=folder)
    command = ["make", "--no-print-directory", "setup-dev", "models"]
    subprocess.run(command, cwd=folder, env=environment(), check=True, timeout=900)
    yield folder
    git("checkout", "--force", "--detach", commit, folder=folder)


def git(*arguments: str, folder: Path = ROOT) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, timeout=60, capture_output=True, text=True
    ).stdout.strip()


def compared(commit: str, folder: Path, output: Path) -> tuple[int, str]:
    """Exit code and output of the gate, run in ``folder`` against the commit without the plant."""
    command = [".venv/bin/asrloop-bench", "compare", "--cells", CELLS, "--rounds", "8", "--output", str(output)]
    done = subprocess.run(
        [*command, commit], cwd=folder, env=environment(), check=False, timeout=900,
        capture_output=True, text=True,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    assert json.loads(output.read_text())["cells"], "it measured"
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("file", "delay", "plant", "found"),
    [
        (ENGINE, FIXED, IN_FAMILY.format(calls="encode"), {"1s-1", "10s-1", "client-1s-1"}),
        (ENGINE, SHARE, IN_FAMILY.format(calls="encode step"), {"10s-1"}),
        (SHARED, SHARE, IN_GRAPHS, {"10s-1"}),
        (CLIENT, FIXED, IN_CLIENT, {"client-1s-1"}),
        (CLIENT, SHARE, IN_CLIENT, {"client-1s-1"}),
    ],
    ids=["engine-10ms", "engine-10%", "shared-10%", "client-10ms", "client-10%"],
)
def test_a_planted_slowdown_is_found(
    commit: str, worktree: Path, tmp_path: Path, file: str, delay: str, plant: str, found: set[str]
) -> None:
    git("checkout", "--force", "--detach", commit, folder=worktree)
    with (worktree / file).open("a", encoding="utf-8") as code:
        code.write(SLOWED.format(delay=delay) + plant)
    git("-c", "user.name=gate", "-c", "user.email=gate@localhost", "commit", "--quiet", "--all", "--no-verify",
        "--message", "A planted slowdown", folder=worktree)  # fmt: skip
    code, said = compared(commit, worktree, tmp_path / "compare.json")
    slower = {line.split()[1] for line in said.splitlines() if "SLOWER" in line}
    assert code == 1
    assert found <= slower
    if file == CLIENT:
        assert slower == found, "the server is the same"


def test_the_same_commit_twice_is_silent(commit: str, worktree: Path, tmp_path: Path) -> None:
    git("checkout", "--force", "--detach", commit, folder=worktree)
    code, said = compared(commit, worktree, tmp_path / "compare.json")
    assert (code, "SLOWER" in said) == (0, False)
    assert "No number is slower" in said
