"""Programs of others, unmodified, each in an environment of its own: what they hear through a real gateway."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from asrloop_bench.figures import aiperf
from asrloop_bench.method import clips

from tests.conftest import BECKETT, ROOT, words
from tests.gateway.conftest import RunningGateway

pytestmark = [pytest.mark.slow, pytest.mark.network]

CLIENTS = Path(__file__).parent / "clients"
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""Keeps LiteLLM on the loopback."""


def run(*command: object, cwd: Path | None = None, seconds: int = 120) -> str:
    """Return what a command prints."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=mine | OFFLINE,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def programs() -> Callable[..., Path]:
    """Return the folder of programs of an environment with ``requirements``, which is made once and kept."""

    def make(*requirements: str, python: str = sys.executable) -> Path:
        folder = ROOT / ".cache" / "foreign" / "+".join(requirements)
        if not (folder / "ready").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            run(python, "-m", "venv", folder)
            run(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *requirements, seconds=900)
            (folder / "ready").touch()
        return folder / "bin"

    return make


@pytest.mark.parametrize(
    ("requirements", "script"),
    [
        (["litellm==1.110.2"], ["litellm_file.py"]),
        (["livekit-plugins-openai==1.8.9"], ["livekit_file.py"]),
        (["livekit-plugins-openai==1.8.9"], ["livekit_live.py"]),
        (["pipecat-ai[openai]==1.14.0"], ["pipecat_services.py", "file"]),
        (["pipecat-ai[openai]==1.14.0"], ["pipecat_services.py", "live"]),
    ],
    ids=["litellm", "livekit", "livekit live", "pipecat", "pipecat live"],
)
@pytest.mark.timeout(1200)
def test_it_hears_every_word(
    requirements: list[str],
    script: list[str],
    programs: Callable[..., Path],
    gateway: RunningGateway,
    beckett_path: Path,
) -> None:
    name, *kind = script
    said = run(programs(*requirements) / "python", CLIENTS / name, *kind, gateway.url, beckett_path)
    assert words(said) == BECKETT


@pytest.mark.parametrize("model", ["whisper-1", "gpt-transcribe", "gpt-live-transcribe"])
@pytest.mark.timeout(600)
def test_home_assistant_hears_every_word_through_wyoming_openai(
    model: str, programs: Callable[..., Path], gateway: RunningGateway, beckett_path: Path
) -> None:
    """A file, a file with events, realtime: the three ways that it has."""
    made = programs("wyoming-openai==0.8.0", python=newer_python()) / "python"
    assert words(run(made, CLIENTS / "wyoming_file.py", gateway.url, beckett_path, model)) == BECKETT


def newer_python() -> str:
    """Return a Python 3.12 or later, which wyoming_openai needs."""
    for name in ("python3.12", "python3.13", "python3"):
        if (found := shutil.which(name)) is None:
            continue
        asked = [found, "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))"]
        if subprocess.run(asked, capture_output=True, timeout=30, check=False).returncode == 0:
            return found
    pytest.skip("needs Python 3.12 or later")


def test_openais_package_for_node_hears_every_word(gateway: RunningGateway, beckett_path: Path, tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs Node (Debian: apt-get install nodejs npm)")
    shutil.copy(CLIENTS / "openai_node.mjs", tmp_path)
    run("npm", "install", "--silent", "--no-audit", "--no-fund", "openai@7.59.0", cwd=tmp_path, seconds=300)
    assert words(run("node", "openai_node.mjs", gateway.url, beckett_path, cwd=tmp_path)) == BECKETT


def test_aiperf_measures_without_an_error(gateway: RunningGateway, tmp_path: Path) -> None:
    """Its own made-up audio is noise, in which this service hears no words; AIPerf takes an empty text for a failure."""
    speech = aiperf.written(clips.cut(clips.speech_files(), 3.0, 2), tmp_path / "speech")
    found = aiperf.profiled(gateway.address, speech, callers=2, requests=4)
    assert (found["request_count"]["avg"], found["request_error_rate"]["avg"]) == (8, 0)
    assert aiperf.cells(found, 3.0)[-2:] == ["8", "0"]
