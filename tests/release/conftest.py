"""What a release consists of, built once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

RELEASED = [folder for folder in (ROOT, ROOT / "client", ROOT / "gateway") if (folder / "pyproject.toml").is_file()]
"""The projects whose wheels are released; the others of this tree stay in it."""


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist of each released project, and a wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    for project in RELEASED:
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(project)]
        built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert built.returncode == 0, built.stdout + built.stderr
    return folder
