"""One server that is hurt again and again, and the table of what came of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Outcomes, Serving, Speech

FULL = bool(os.environ.get("FAULTS_FULL"))
"""Set by `make test-faults`; without it each fault is tried in its short form."""

_rows: list[tuple[str, str, str]] = []


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory, speech: Speech, model_repository: Path) -> Iterator[Serving]:
    running = Serving(tmp_path_factory.mktemp("faults") / "serve.log")
    try:
        running.wait(speech)
        yield running
    finally:
        running.stop()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> "Report":
    return Report(request.node.name)


class Report:
    """Checks what must hold after every fault, and adds a row to the table."""

    def __init__(self, fault: str) -> None:
        self.fault = fault.removeprefix("test_").replace("_", " ")

    def __call__(self, outcomes: Outcomes, recovery: str = "") -> None:
        _rows.append((self.fault, str(outcomes), recovery))
        assert outcomes.counts["WRONG TEXT"] == 0
        assert outcomes.counts["HUNG"] == 0, str(outcomes)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _rows:
        terminalreporter.section("faults and what became of the requests")
        for fault, outcomes, recovery in _rows:
            terminalreporter.line(f"{fault:60} {recovery:24} {outcomes}")
