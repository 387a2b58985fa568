"""When a failed attempt is made again: exponential backoff with full jitter, never beyond the deadline.

Full jitter after "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. No I/O and no waiting.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from asrloop_client.config import RetryConfig
from asrloop_client.errors import AsrError


class Retry:
    """Decides; the caller waits."""

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
