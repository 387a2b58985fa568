"""One server that is hurt again and again, and the table of what came of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Outcomes, Serving, Speech

FAULT = "fault"
"""The name of the property of a test's report that holds its row, which comes from whichever process ran the test."""


def short_and_long(names: str, short: object, long: object) -> pytest.MarkDecorator:
    """Run a test in a short form and, marked slow, in a long one."""
    return pytest.mark.parametrize(names, [short, pytest.param(long, marks=pytest.mark.slow)], ids=["short", "long"])


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
    return Report(request.node)


class Report:
    """Checks what must hold after every fault, and adds a row to the table."""

    def __init__(self, test: pytest.Item) -> None:
        self.test = test

    def __call__(self, outcomes: Outcomes, recovery: str = "") -> None:
        fault = self.test.name.removeprefix("test_").replace("_", " ")
        self.test.user_properties.append((FAULT, f"{fault:60} {recovery:24} {outcomes}"))
        assert outcomes.counts["WRONG TEXT"] == 0
        assert outcomes.counts["HUNG"] == 0, str(outcomes)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind) if one.when == "call"]
    if rows := [row for one in reports for name, row in one.user_properties if name == FAULT]:
        terminalreporter.section("faults and what became of the requests")
        for row in rows:
            terminalreporter.line(row)
