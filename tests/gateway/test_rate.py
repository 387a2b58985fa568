"""The rate limit: who is limited, and when a refused caller may come again."""

from collections import Counter

import pytest
from asrloop_gateway.rate import RateLimit
from asrloop_gateway.settings import Settings

KEY = "0123456789abcdef"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_one_user_on_the_loopback_has_no_limit() -> None:
    assert Settings().most_requests_per_minute is None
    assert Settings(requests_per_minute=7).most_requests_per_minute == 7
    assert Settings(keys=KEY).most_requests_per_minute == 600
    assert Settings(host="0.0.0.0", keys=KEY).most_requests_per_minute == 600


def test_refused_callers_are_told_moments_of_their_own_and_are_taken_then(clock: Clock) -> None:
    limit = RateLimit(600, clock)
    for number in range(600):
        clock.now = 1000 + number / 60  # 600 files in 10 s
        assert limit.wait("one") == 0
    waits = [limit.wait("one") for _ in range(300)]
    assert max(Counter(round(wait) for wait in waits).values()) <= 61, "not all in the same second"
    assert 49 < min(waits) < max(waits) <= 60
    begin = clock.now
    for wait in waits:
        clock.now = begin + wait + 1e-6
        assert limit.wait("one") == 0, "a promise holds"


def test_never_more_than_the_limit_in_any_minute(clock: Clock) -> None:
    limit, taken = RateLimit(10, clock), list[float]()
    for _ in range(2000):
        clock.now += 0.7
        if not limit.wait("one"):
            taken.append(clock.now)
    assert max(sum(moment - 60 < each <= moment for each in taken) for moment in taken) == 10
    assert len(taken) > 200


def test_who_never_stops_asking_waits_for_a_minute_at_most_and_others_do_not(clock: Clock) -> None:
    limit = RateLimit(3, clock)
    waits = [limit.wait("one") for _ in range(100)]
    assert waits[:3] == [0, 0, 0]
    assert all(0 < wait <= 60 for wait in waits[3:])
    assert limit.wait("another") == 0


def test_callers_who_left_are_forgotten(clock: Clock) -> None:
    limit = RateLimit(3, clock)
    for number in range(100):
        limit.wait(f"caller {number}")
    clock.now += 61
    limit.wait("one")
    assert list(limit._callers) == ["one"]
