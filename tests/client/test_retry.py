"""Which errors are tried again, and how long after."""

import pytest
from asrloop_client import errors
from asrloop_client.config import RetryConfig
from asrloop_client.retry import Retry


def longest(low: float, high: float) -> float:
    assert low == 0, "full jitter starts at 0"
    return high


@pytest.mark.parametrize("error", [errors.Overloaded, errors.ServerGone, errors.ModelNotReady])
def test_unavailable_and_lost_connections_are_retried(error: type[errors.AsrError]) -> None:
    assert Retry(RetryConfig()).delay(error("x"), 1, 10) is not None


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidAudio,
        errors.DeadlineExceeded,
        errors.PoolExhausted,
        errors.CircuitOpen,
        errors.AccessDenied,
        errors.Cancelled,
        errors.ServerFailure,
        errors.SharedMemoryFailed,
        errors.ClientClosed,
        errors.ClientForked,
    ],
)
def test_nothing_else_is(error: type[errors.AsrError]) -> None:
    assert Retry(RetryConfig()).delay(error("x"), 1, 10) is None


def test_the_wait_doubles_up_to_its_limit() -> None:
    retry = Retry(RetryConfig(attempts=2000, base_delay=0.1, max_delay=0.5), longest)
    delays = [retry.delay(errors.ServerGone("x"), attempt, 10) for attempt in (1, 2, 3, 4, 1500)]
    assert delays == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_the_last_attempt_is_the_last() -> None:
    retry = Retry(RetryConfig(attempts=3))
    assert retry.delay(errors.ServerGone("x"), 2, 10) is not None
    assert retry.delay(errors.ServerGone("x"), 3, 10) is None


def test_no_wait_reaches_beyond_the_deadline() -> None:
    retry = Retry(RetryConfig(base_delay=1, max_delay=1), longest)
    assert retry.delay(errors.ServerGone("x"), 1, 1.01) == 1
    assert retry.delay(errors.ServerGone("x"), 1, 1.0) is None
