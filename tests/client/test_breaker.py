"""The circuit breaker, with an injected clock."""

import pytest
from asrloop_client.breaker import Breaker, BreakerState
from asrloop_client.config import BreakerConfig


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(BreakerConfig(failures=3, open_seconds=5, probes=2), clock)


def permit(breaker: Breaker) -> int:
    given = breaker.allow()
    assert given is not None
    return given


def trip(breaker: Breaker) -> None:
    for _ in range(3):
        breaker.failed(permit(breaker))


def test_consecutive_failures_open_it(breaker: Breaker) -> None:
    trip(breaker)
    assert breaker.state is BreakerState.OPEN
    assert breaker.allow() is None
    assert breaker.retry_after == 5


def test_a_success_in_between_keeps_it_closed(breaker: Breaker) -> None:
    for _ in range(10):
        breaker.failed(permit(breaker))
        breaker.failed(permit(breaker))
        breaker.succeeded(permit(breaker))
    assert breaker.state is BreakerState.CLOSED


def test_after_the_open_time_it_lets_as_many_probes_through_as_configured(breaker: Breaker, clock: Clock) -> None:
    trip(breaker)
    clock.now = 4.9
    assert breaker.allow() is None
    clock.now = 5
    assert breaker.state is BreakerState.HALF_OPEN
    permit(breaker)
    permit(breaker)
    assert breaker.allow() is None


def test_probes_that_succeed_close_it(breaker: Breaker, clock: Clock) -> None:
    trip(breaker)
    clock.now = 5
    first, second = permit(breaker), permit(breaker)
    breaker.succeeded(first)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.succeeded(second)
    assert breaker.state is BreakerState.CLOSED


def test_a_probe_that_fails_opens_it_for_the_whole_time_again(breaker: Breaker, clock: Clock) -> None:
    trip(breaker)
    clock.now = 7
    breaker.failed(permit(breaker))
    assert breaker.retry_after == 5


def test_a_probe_that_was_cancelled_makes_room_for_another(breaker: Breaker, clock: Clock) -> None:
    trip(breaker)
    clock.now = 5
    first = permit(breaker)
    permit(breaker)
    breaker.abandoned(first)
    assert breaker.allow() is not None


def test_slow_calls_from_before_neither_close_nor_reopen_it(breaker: Breaker, clock: Clock) -> None:
    slow = [permit(breaker) for _ in range(5)]
    trip(breaker)
    breaker.succeeded(slow[0])
    assert breaker.state is BreakerState.OPEN
    clock.now = 5
    first = permit(breaker)
    breaker.failed(slow[1])
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.succeeded(slow[2])
    breaker.succeeded(slow[3])
    breaker.abandoned(slow[4])
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.succeeded(first)
    breaker.succeeded(permit(breaker))
    assert breaker.state is BreakerState.CLOSED
