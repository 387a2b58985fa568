"""The log cannot be filled by one caller."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from asrloop_gateway.logs import ADDRESS, FewFromOne

from tests.gateway.test_rate import Clock


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> Iterator[list[str]]:
    handler, log = Lines(), logging.getLogger("asyncio")
    handler.addFilter(FewFromOne(clock))
    log.addHandler(handler)
    yield handler.lines
    log.removeHandler(handler)


def say(address: str | None, count: int, name: str = "asyncio") -> None:
    token = ADDRESS.set(address)
    for number in range(count):
        logging.getLogger(name).error("line %d", number)
    ADDRESS.reset(token)


def test_one_caller_gets_few_lines_a_minute_and_the_rest_are_counted(lines: list[str], clock: Clock) -> None:
    say("10.0.0.1", 500)
    assert len(lines) == 10
    assert "further lines caused by 10.0.0.1 are left out" in lines[-1]
    say("10.0.0.2", 1)
    assert lines[-1] == "line 0"
    clock.now += 61
    say("10.0.0.2", 2)
    assert lines[-2:] == ["line 0 (490 lines were left out before, 490 of 10.0.0.1)", "line 1"]
    say("10.0.0.1", 1)
    assert lines[-1] == "line 0"


def test_addresses_of_one_network_are_one_caller(lines: list[str]) -> None:
    for number in range(20):
        say(f"2001:db8::{number:x}", 1)
    assert len(lines) == 10


def test_what_asyncio_says_of_nobody_is_limited_as_well(lines: list[str]) -> None:
    say(None, 30)
    assert len(lines) == 10


def test_the_gateways_own_lines_are_all_written(clock: Clock) -> None:
    handler, log = Lines(), logging.getLogger("asrloop_gateway.tests")
    handler.addFilter(FewFromOne(clock))
    log.addHandler(handler)
    say(None, 30, log.name)
    log.removeHandler(handler)
    assert len(handler.lines) == 30
