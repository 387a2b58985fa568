"""Telling a hung server from a busy one: a model that answers nobody and uses no processor hangs."""

import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from asrloop.tritonserver import canary
from asrloop.tritonserver.processes import processor_seconds

LEAST_SHARE = 0.1
"""Share of a core that a process which works uses or waits for. Threads that are stopped, or wait for each other, use less."""

MOST_DOUBTS = 5
"""Rounds in a row in which a model works and answers nobody; after that it hangs all the same, in an endless loop."""

SERVER = "tritonserver"


class _Signs(NamedTuple):
    answers: Mapping[str, float]
    seconds: Mapping[str, float]
    """On the processor or waiting for it, by process."""


class HangWatch:
    """Asks one server again and again."""

    def __init__(
        self, http_endpoint: str, metrics_url: str | None, timeout: float, processes: Mapping[str, int] | None = None
    ) -> None:
        """``processes`` are the process ids of tritonserver and of its models, as far as they run here."""
        self._http_endpoint = http_endpoint
        self._metrics_url = metrics_url
        self._timeout = timeout
        self._processes = processes or {}
        self._doubts: Counter[str] = Counter()
        self.answered = threading.Event()
        """Set once a model has answered, be it others than us."""
        self.busy = ""
        """What was without an answer at the last question, though the server works."""

    def why_hung(self) -> str | None:
        """Ask once, for the timeout and 6 s at most. Return why the server counts as hung; None when it answers or is busy."""
        began, before, self.busy = time.monotonic(), self._signs(), ""
        failed = {failure.model: str(failure) for failure in self._ask()}
        after = before
        if failed and (before.answers or before.seconds):
            # A refusal comes at once, and says nothing of what the model does for others.
            time.sleep(max(0.0, began + self._timeout - time.monotonic()))
            after = self._signs()
        elapsed = max(time.monotonic() - began, 0.001)
        for question in canary.questions():
            model = question.model
            if model not in failed:
                self._doubts[model] = 0
                continue
            if before.answers and before.answers[model] < after.answers.get(model, 0.0):
                self._doubts[model] = 0
                self.answered.set()
            elif self._doubts[model] < MOST_DOUBTS and self._works(question.process, before, after, elapsed):
                self._doubts[model] += 1
            else:
                return failed[model]
            self.busy = failed[model]
        return None

    def _ask(self) -> Collection[canary.CanaryFailed]:
        return canary.failures(self._http_endpoint, self._timeout, self.answered.set)

    def _works(self, process: str, before: _Signs, after: _Signs, elapsed: float) -> bool:
        """Return True when the process works, or tritonserver works on something that keeps the question from it."""

        def share(name: str) -> float:
            return (after.seconds.get(name, 0.0) - before.seconds.get(name, 0.0)) / elapsed

        return share(process) >= LEAST_SHARE or (
            share(SERVER) >= LEAST_SHARE and not canary.is_live(self._http_endpoint)
        )

    def _signs(self) -> _Signs:
        return _Signs(
            canary.answers(self._metrics_url) if self._metrics_url else {},
            {name: processor_seconds(process) for name, process in self._processes.items()},
        )
