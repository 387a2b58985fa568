"""One call's steps over several servers, and which errors are tried again when: no network, an injected clock."""

from collections.abc import Generator

import pytest
from asrloop_client import errors
from asrloop_client.breaker import Breaker
from asrloop_client.call import Attempt, Pause, Retry, steps
from asrloop_client.config import BreakerConfig, RetryConfig
from asrloop_client.endpoints import Endpoint, Endpoints

Steps = Generator[Attempt[None] | Pause, str, str]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def longest(low: float, high: float) -> float:
    assert low == 0, "full jitter starts at 0"
    return high


class World:
    """Endpoints a, b, ... and the calls made to them."""

    def __init__(self, names: str, **breaker: float) -> None:
        self.clock = Clock()
        self.servers = [
            Endpoint(name, None, Breaker(BreakerConfig(**{"failures": 3, **breaker}), self.clock)) for name in names
        ]
        self.endpoints: Endpoints[None] = Endpoints(self.servers)

    def call(self, timeout: float = 10.0, attempts: int = 4) -> Steps:
        retry = Retry(RetryConfig(attempts=attempts, base_delay=1, max_delay=1), longest)
        return steps(self.endpoints, retry, timeout, self.clock)


def attempted(step: Attempt[None] | Pause) -> str:
    assert isinstance(step, Attempt)
    return step.permit.endpoint.address


def finish(call: Steps, reply: str = "text") -> str:
    with pytest.raises(StopIteration) as stop:
        call.send(reply)
    return str(stop.value.value)


def test_a_reply_ends_the_call() -> None:
    world = World("a")
    call = world.call()
    assert attempted(next(call)) == "a"
    assert world.servers[0].in_flight == 1
    assert finish(call) == "text"
    assert world.servers[0].in_flight == 0


def test_calls_are_spread_by_least_in_flight() -> None:
    world = World("abc")
    calls = [world.call() for _ in range(6)]
    assert sorted(attempted(next(call)) for call in calls) == ["a", "a", "b", "b", "c", "c"]
    finish(calls[3])
    (relieved,) = (server.address for server in world.servers if server.in_flight == 1)
    assert attempted(next(world.call())) == relieved


def test_a_lost_server_is_set_aside_and_the_call_goes_on_at_the_other_at_once() -> None:
    world = World("ab")
    call = world.call()
    lost = attempted(next(call))
    other = attempted(call.throw(errors.ServerGone("x")))
    assert {lost, other} == {"a", "b"}
    assert finish(call) == "text"
    assert all(attempted(next(world.call())) == other for _ in range(4))


def test_a_healthy_server_is_used_again() -> None:
    world = World("ab")
    world.servers[0].healthy = False
    assert attempted(next(world.call())) == "b"
    world.servers[0].healthy = True
    assert attempted(next(world.call())) == "a"


def test_a_server_that_was_set_aside_is_better_than_none() -> None:
    world = World("a")
    world.servers[0].healthy = False
    assert attempted(next(world.call())) == "a"


def test_one_server_is_tried_again_after_a_pause() -> None:
    world = World("a")
    call = world.call()
    next(call)
    assert call.throw(errors.Overloaded("full")) == Pause(1)
    again = call.send("")
    assert isinstance(again, Attempt)
    assert again.number == 2


def test_invalid_audio_is_raised_at_once_and_does_not_count_against_the_server() -> None:
    world = World("a", failures=1)
    call = world.call()
    next(call)
    with pytest.raises(errors.InvalidAudio):
        call.throw(errors.InvalidAudio("x"))
    assert world.servers[0].breaker.state.value == "closed"
    assert world.servers[0].healthy


def test_when_the_attempts_are_spent_the_last_error_is_raised() -> None:
    call = World("a").call(attempts=2)
    next(call)
    call.throw(errors.Overloaded("first"))
    call.send("")
    with pytest.raises(errors.Overloaded, match="second"):
        call.throw(errors.Overloaded("second"))


def test_no_attempt_starts_after_the_deadline_and_each_knows_what_remains() -> None:
    world = World("a")
    call = world.call(timeout=3)
    first = next(call)
    assert isinstance(first, Attempt)
    assert first.remaining == 3
    world.clock.now = 1.5
    assert call.throw(errors.ServerGone("lost")) == Pause(1)
    world.clock.now = 3.5
    with pytest.raises(errors.DeadlineExceeded, match="no attempt succeeded in 3 s; the last error: lost"):
        call.send("")
    assert world.servers[0].in_flight == 0


def test_a_failing_server_opens_its_circuit_and_calls_fail_fast() -> None:
    world = World("a", open_seconds=5)
    for _ in range(3):
        call = world.call(attempts=1)
        next(call)
        with pytest.raises(errors.ServerGone):
            call.throw(errors.ServerGone("gone"))
    with pytest.raises(errors.CircuitOpen, match=r"a: left alone .* gone .*Tried again in 5\.0 s"):
        next(world.call())
    world.clock.now = 5
    probe = world.call()
    next(probe)
    with pytest.raises(errors.CircuitOpen):
        next(world.call())
    finish(probe)
    assert attempted(next(world.call())) == "a"


def test_a_call_that_meets_an_open_circuit_on_its_retry_raises_what_opened_it() -> None:
    world = World("a", failures=1)
    call = world.call()
    next(call)
    call.throw(errors.ServerGone("gone"))
    with pytest.raises(errors.ServerGone, match="gone"):
        call.send("")


def test_an_open_circuit_is_passed_over_for_another_server() -> None:
    world = World("ab", failures=1)
    call = world.call()
    failed = attempted(next(call))
    with pytest.raises(errors.ServerFailure):
        call.throw(errors.ServerFailure("x"))
    assert {attempted(next(world.call())) for _ in range(5)} == {"a", "b"} - {failed}


def test_cancelling_gives_the_half_open_probe_back() -> None:
    world = World("a", failures=1, open_seconds=5)
    call = world.call(attempts=1)
    next(call)
    with pytest.raises(errors.ServerGone):
        call.throw(errors.ServerGone("x"))
    world.clock.now = 5
    probe = world.call()
    next(probe)
    probe.close()
    assert world.servers[0].in_flight == 0
    assert attempted(next(world.call())) == "a"


def test_a_pool_without_room_says_nothing_about_the_server() -> None:
    world = World("a", failures=1)
    call = world.call()
    next(call)
    with pytest.raises(errors.PoolExhausted):
        call.throw(errors.PoolExhausted("x"))
    assert world.servers[0].breaker.state.value == "closed"


def test_no_server_at_all_is_a_clear_error() -> None:
    with pytest.raises(errors.InvalidConfig, match="host:port"):
        Endpoints([])


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
