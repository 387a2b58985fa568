"""The package installs alone in an empty environment, with nothing but what it names."""

import os
import subprocess
import venv
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parents[2] / "client"


@pytest.mark.slow
@pytest.mark.network
def test_it_installs_alone_and_says_what_the_command_needs(tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", with_pip=True)
    binaries = tmp_path / "empty" / "bin"

    def run(*command: object) -> "subprocess.CompletedProcess[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    installed = run(binaries / "pip", "install", "--disable-pip-version-check", CLIENT)
    assert installed.returncode == 0, installed.stderr
    names = {line.split("==")[0].lower() for line in run(binaries / "pip", "list", "--format=freeze").stdout.split()}
    assert {"asrloop-client", "tritonclient", "grpcio", "numpy"} <= names
    assert not names & {"asrloop", "typer", "rich", "soundfile", "onnxruntime", "pydantic"}
    code = "import asrloop_client; asrloop_client.AsrClient('127.0.0.1:1', prewarm=False).close()"
    imported = run(binaries / "python", "-W", "error", "-c", code)
    assert (imported.returncode, imported.stderr) == (0, "")
    command = run(binaries / "asr-client")
    assert command.returncode == 1
    assert command.stderr == "asr-client needs typer and rich: pip install 'asrloop-client[cli]'\n"
