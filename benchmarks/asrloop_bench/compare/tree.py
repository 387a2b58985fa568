"""A commit set up and served for measuring, in a git worktree with an environment and models of its own, kept between runs."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asrloop.tritonserver.checks import free_ports
from asrloop_bench import processes
from asrloop_bench.checkout import ROOT

SETUP_SECONDS, START_SECONDS = 900.0, 120.0
TREES = ROOT / ".cache" / "compare"
INHERITED = {
    *("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS", "BASE"),
    *("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"),
}
"""Variables that a calling make or environment hands down."""


class TreeError(RuntimeError):
    """A commit could not be found or set up; the message says why."""


@dataclass(frozen=True)
class Tree:
    """A checkout that can serve."""

    folder: Path
    name: str
    """Short commit, with a + where the files differ from it."""

    @property
    def python(self) -> Path:
        return self.folder / ".venv" / "bin" / "python"


def here() -> Tree:
    """Return this checkout, with changes that are not committed."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return Tree(ROOT, f"{commit}+" if changed else commit)


def set_up(commit: str, trees: Path = TREES) -> Tree:
    """Return the worktree of ``commit`` below ``trees``; make it where it is missing. Raises TreeError."""
    if Path(commit).is_file():
        raise TreeError(
            f"{commit} is a file. Times of two machines, or of two days, say nothing about two commits: "
            "give a commit, both are measured here and now"
        )
    try:
        full = _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    except TreeError:
        raise TreeError(f"{commit!r} is no commit of this repository; give a hash, a branch or a tag") from None
    folder = trees / full[:12]
    if not (folder / ".git").exists():
        _git("worktree", "prune")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git("worktree", "add", "--quiet", "--force", "--detach", str(folder), full)
    if _git("rev-parse", "HEAD", folder=folder) != full:
        raise TreeError(f"{folder} is not at {full[:12]}; delete it: git worktree remove --force {folder}")
    _run(["make", "--no-print-directory", "setup", "models"], folder, SETUP_SECONDS)
    return Tree(folder, full[:12])


@contextmanager
def served(tree: Tree) -> Iterator[str]:
    """Give the gRPC address of a server of ``tree`` on free ports, with the settings of its own config.yaml. Raises TreeError."""
    http, grpc, metrics = free_ports()
    command = [str(tree.python), "scripts/serve.py", f"--http-port={http}", f"--grpc-port={grpc}"]
    command += [f"--metrics-port={metrics}", "--host=127.0.0.1", "--log-level=error"]
    url = f"http://127.0.0.1:{http}/v2/models/asr_ensemble/ready"
    with processes.running(
        f"the server of {tree.name}", command, lambda _: processes.answers(url),
        seconds=START_SECONDS, environment=environment(), folder=tree.folder, error=TreeError,
    ):  # fmt: skip
        yield f"127.0.0.1:{grpc}"


def environment() -> Mapping[str, str]:
    """Return the variables for commands that run in a tree: without this project's settings and without INHERITED."""
    inherited = os.environ.items()
    return {name: value for name, value in inherited if name not in INHERITED and not name.startswith("ASRLOOP_")}


def _git(*arguments: str, folder: Path = ROOT) -> str:
    return _run(["git", *arguments], folder, 120)


def _run(command: list[str], folder: Path, seconds: float) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment(), check=False, timeout=seconds, text=True,
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TreeError(f"{' '.join(command[:3])} in {folder}: {error}") from None
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise TreeError(f"{' '.join(command[:3])} in {folder} failed: {reason}")
    return done.stdout.strip()
