"""What is served stays here: by default ONNX Runtime reports to its maker, from 1.29 on, and keeps a number of the machine."""

from pathlib import Path

import pytest

from tests.faults.harness import Serving, Speech

SUPPRESSED_BY = (
    "CI",
    "GITHUB_ACTIONS",
    "TF_BUILD",
    "JENKINS_URL",
    "GITLAB_CI",
    "ORT_DISABLE_TELEMETRY",
    "PYTEST_CURRENT_TEST",
)
"""Variables that turn reports off by themselves: without them the server is as it is for a user."""


def test_a_server_makes_no_number_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech: Speech, model_repository: Path
) -> None:
    for name in SUPPRESSED_BY:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    serving = Serving(tmp_path / "serve.log", HOME=str(home), XDG_CACHE_HOME=str(home / ".cache"))
    try:
        serving.wait(speech)
        assert speech.ask(serving.address, by_file=True) == "ok"
    finally:
        serving.stop()
    assert [path for path in home.rglob("*") if path.is_file()] == []
