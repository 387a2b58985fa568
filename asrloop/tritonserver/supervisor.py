"""Supervision of a server: Triton never restarts a dead model process and still reports READY, so this restarts the server.

It watches tritonserver and every model process for their end, and asks for a transcript regularly to notice a hang. After
either it logs the reason, kills the whole server, so that callers see their connection drop and can retry, and restarts it.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf

from asrloop.config import SupervisorSettings
from asrloop.tritonserver.hangs import SERVER, HangWatch
from asrloop.tritonserver.install import TritonError
from asrloop.tritonserver.process import TritonServer
from asrloop.tritonserver.processes import ProcessWatch, model_processes

RESTARTS_VARIABLE = "ASRLOOP_RESTARTS"
"""Environment variable that gives the number of restarts to the server's metrics."""

POLL_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
QUICK_FAILURE_SECONDS = 5.0
"""A server that fails after at least this long is restarted at once; one that fails sooner, after a pause."""

FIRST_ANSWER_SECONDS = 1.0
"""Longest wait for a first answer from the other models when a process ends before there was one: a caller may send a file that
ends its process as soon as the server is ready, again and again."""


class Supervisor:
    """Runs a server and restarts it until it is interrupted or the server fails too often."""

    def __init__(
        self,
        make_server: Callable[[Mapping[str, str]], TritonServer],
        settings: SupervisorSettings,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``make_server`` is called with environment variables to set, ``say`` with each line to log."""
        self._make_server = make_server
        self._settings = settings
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._failures: deque[float] = deque()
        self._quick_failures = 0
        self._worked = False
        """True when the server that ran last has answered requests."""
        self.restarts = 0

    def run(self, ready: Callable[[TritonServer], None]) -> None:
        """Serve until KeyboardInterrupt; ``ready`` is called after each start.

        Raises TritonError after too many failures of servers that answered nobody.

        A failure of the first start is raised at once, because its cause is mostly a setting, which a restart does not change.
        """
        ever_served = False
        while True:
            served_from, self._worked = inf, False
            try:
                with self._make_server({RESTARTS_VARIABLE: str(self.restarts)}) as server:
                    ever_served, served_from = True, self._clock()
                    reason = self._watch(server, ready)
                    server.kill()
            except TritonError as error:
                if not ever_served:
                    raise
                reason = str(error)
            self._count_failure(reason, self._clock() - served_from)

    def _count_failure(self, reason: str, served_seconds: float) -> None:
        """Count a failure and pause before the next start if failures come quickly. Raises TritonError after too many."""
        if self._worked:
            # Most likely a request ended it. To give up would let whoever sends that end the service for all others.
            self._failures.clear()
            self._quick_failures = 0
            self.restarts += 1
            self._say(f"{reason}; restarting the server in 0 s (it worked until then)")
            return
        limit, window = self._settings.max_restarts, self._settings.restart_window_seconds
        now = self._clock()
        self._failures.append(now)
        while self._failures and now - self._failures[0] > window:
            self._failures.popleft()
        if len(self._failures) > limit:
            raise TritonError(
                f"{reason}; giving up after {limit} restarts within {window:g} s in which nothing was answered "
                "(supervisor.max_restarts)"
            )
        self.restarts += 1
        self._quick_failures = self._quick_failures + 1 if served_seconds < QUICK_FAILURE_SECONDS else 0
        pause = min(2.0 ** (self._quick_failures - 2), LONGEST_PAUSE_SECONDS) if self._quick_failures > 1 else 0.0
        self._say(
            f"{reason}; restarting the server in {pause:g} s ({len(self._failures)} of at most {limit} in {window:g} s)"
        )
        self._sleep(pause)

    def _watch(self, server: TritonServer, ready: Callable[[TritonServer], None]) -> str:
        """Wait until the server has failed, and return the reason. Its processes are watched before anybody hears that it is ready:
        one that ends at once would not be found any more."""
        try:
            processes = {SERVER: server.pid, **model_processes(server.pid)}
            watch = ProcessWatch(processes)
        except OSError as error:
            return f"a process of the server ended while it started ({error})"
        ready(server)
        timeout = self._settings.canary_timeout_seconds
        hangs = HangWatch(server.http_endpoint, server.metrics_url, timeout, processes)
        hung: list[str] = []
        stop = threading.Event()
        thread = threading.Thread(target=self._ask_for_ever, args=(hangs, hung, stop), name="canary", daemon=True)
        thread.start()
        try:
            with watch:
                while True:
                    reason = watch.ended(POLL_SECONDS) or (hung[0] if hung else None)
                    if reason is not None:
                        self._worked = hangs.answered.wait(FIRST_ANSWER_SECONDS)
                        return reason
        finally:
            stop.set()

    def _ask_for_ever(self, hangs: HangWatch, hung: list[str], stop: threading.Event) -> None:
        while not stop.is_set():
            reason = hangs.why_hung()
            if reason is not None and not stop.is_set():
                hung.append(f"the server hangs: {reason}")
                return
            stop.wait(self._settings.canary_interval_seconds)


def restarts_so_far() -> int:
    """Return how often the supervisor has restarted the server that this process belongs to."""
    with suppress(ValueError):
        return int(os.environ.get(RESTARTS_VARIABLE, "0"))
    return 0
