"""One call as a series of steps: which server, when to try again, when to stop. The clients carry the steps out.

A generator holds the policy, so that threads and asyncio share it: it yields what to do next and is sent the result or
thrown the error.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

from asrloop_client.config import RetryConfig
from asrloop_client.endpoints import Endpoints, Permit
from asrloop_client.errors import AsrError, CircuitOpen, DeadlineExceeded

PoolT = TypeVar("PoolT")
ReplyT = TypeVar("ReplyT")


@dataclass(frozen=True)
class Attempt(Generic[PoolT]):
    """Send the request to `permit.endpoint`, number `number` from 1, with `remaining` s before the deadline."""

    permit: Permit[PoolT]
    number: int
    remaining: float


@dataclass(frozen=True)
class Pause:
    """Wait `seconds`."""

    seconds: float


class Retry:
    """Whether and when a failed attempt is made again: exponential backoff with full jitter, never beyond the deadline.

    Full jitter after "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. It decides; the caller waits.
    """

    def __init__(self, config: RetryConfig, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._config = config
        self._uniform = uniform

    def delay(self, error: AsrError, attempt: int, remaining: float) -> float | None:
        """Seconds to wait after attempt number `attempt` failed `remaining` s before the deadline; None to give up."""
        if not error.retryable or attempt >= self._config.attempts:
            return None
        # Bounded, so that a long series of attempts does not overflow the float.
        ceiling = min(self._config.max_delay, self._config.base_delay * 2.0 ** min(attempt - 1, 60))
        delay = self._uniform(0.0, ceiling)
        return delay if delay < remaining else None


def steps(
    endpoints: Endpoints[PoolT],
    retry: Retry,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Attempt[PoolT] | Pause, ReplyT, ReplyT]:
    """The steps of one call; returns the reply or raises the last attempt's error.

    Closing the generator during an attempt (the caller was cancelled) gives the server's permit back.
    """
    deadline = clock() + timeout
    tried: set[str] = set()
    last: AsrError | None = None
    try:
        for number in itertools.count(1):
            try:
                permit = endpoints.choose(tried)
            except CircuitOpen as error:
                raise last or error from None
            try:
                reply = yield Attempt(permit, number, _remaining(deadline, clock, timeout, last))
            except AsrError as error:
                endpoints.failed(permit, error)
                last = error
            except BaseException:
                endpoints.abandoned(permit)
                raise
            else:
                endpoints.succeeded(permit)
                return reply
            tried.add(permit.endpoint.address)
            delay = retry.delay(last, number, deadline - clock())
            if delay is None:
                raise last
            # Another server may answer at once; the backoff protects the one that failed.
            if not endpoints.has_untried(tried):
                yield Pause(delay)
    finally:
        # This frame is in the error's traceback: kept here, the error would keep itself alive, and its call's socket.
        last = None
    raise AssertionError("unreachable: the loop ends by return or raise")


def _remaining(deadline: float, clock: Callable[[], float], timeout: float, last: AsrError | None) -> float:
    remaining = deadline - clock()
    if remaining <= 0:
        said = "" if last is None else f"; the last error: {last}"
        raise DeadlineExceeded(f"no attempt succeeded in {timeout:.3g} s{said} Raise `timeout`.") from last
    return remaining
