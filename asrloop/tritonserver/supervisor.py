"""Keeps a server serving: Triton never restarts a dead model process and goes on saying READY, so this does.

It watches tritonserver and every model process for their end, and asks for a transcript now and then to notice a hang. On
either it says why, ends the whole server at once, so that callers see their connection drop and can retry, and starts it anew.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf

from asrloop.config import SupervisorSettings
from asrloop.tritonserver import canary
from asrloop.tritonserver.install import TritonError
from asrloop.tritonserver.process import TritonServer
from asrloop.tritonserver.processes import ProcessWatch, model_processes

RESTARTS_VARIABLE = "ASRLOOP_RESTARTS"
"""Tells the server's metrics how often it was started anew."""

POLL_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
QUICK_FAILURE_SECONDS = 5.0
"""A server that served this long failed by chance and is started anew at once; one that fails sooner, after a pause."""


class Supervisor:
    """Runs one server after another until it is interrupted or they fail too often."""

    def __init__(
        self,
        make_server: Callable[[Mapping[str, str]], TritonServer],
        settings: SupervisorSettings,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``make_server`` gets environment variables to set; ``say`` gets a line for whoever watches."""
        self._make_server = make_server
        self._settings = settings
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._failures: deque[float] = deque()
        self._quick_failures = 0
        self.restarts = 0

    def run(self, ready: Callable[[TritonServer], None]) -> None:
        """Serve until KeyboardInterrupt; ``ready`` is called after each start. Raises TritonError after too many failures.

        A first start that fails is raised as it is: nothing has served yet, and trying again would not change a setting.
        """
        ever_served = False
        while True:
            served_from = inf
            try:
                with self._make_server({RESTARTS_VARIABLE: str(self.restarts)}) as server:
                    ever_served, served_from = True, self._clock()
                    ready(server)
                    reason = self._watch(server)
                    server.kill()
            except TritonError as error:
                if not ever_served:
                    raise
                reason = str(error)
            self._count_failure(reason, self._clock() - served_from)

    def _count_failure(self, reason: str, served_seconds: float) -> None:
        """Pause before the next start where the failures come quickly; raises TritonError when there were too many."""
        limit, window = self._settings.max_restarts, self._settings.restart_window_seconds
        now = self._clock()
        self._failures.append(now)
        while self._failures and now - self._failures[0] > window:
            self._failures.popleft()
        if len(self._failures) > limit:
            raise TritonError(
                f"{reason}; giving up after {limit} restarts within {window:g} s (supervisor.max_restarts)"
            )
        self.restarts += 1
        self._quick_failures = self._quick_failures + 1 if served_seconds < QUICK_FAILURE_SECONDS else 0
        pause = min(2.0 ** (self._quick_failures - 2), LONGEST_PAUSE_SECONDS) if self._quick_failures > 1 else 0.0
        self._say(
            f"{reason}; restarting the server in {pause:g} s ({len(self._failures)} of at most {limit} in {window:g} s)"
        )
        self._sleep(pause)

    def _watch(self, server: TritonServer) -> str:
        """Block until the server has failed, and say why."""
        try:
            watch = ProcessWatch({"tritonserver": server.pid, **model_processes(server.pid)})
        except OSError as error:
            return f"a process of the server ended while it started ({error})"
        hung: list[str] = []
        stop = threading.Event()
        thread = threading.Thread(target=self._ask_for_ever, args=(server, hung, stop), name="canary", daemon=True)
        thread.start()
        try:
            with watch:
                while True:
                    reason = watch.ended(POLL_SECONDS) or (hung[0] if hung else None)
                    if reason is not None:
                        return reason
        finally:
            stop.set()

    def _ask_for_ever(self, server: TritonServer, hung: list[str], stop: threading.Event) -> None:
        while not stop.wait(self._settings.canary_interval_seconds):
            reason = self.why_hung(server.http_endpoint, server.metrics_url)
            if reason is not None and not stop.is_set():
                hung.append(reason)
                return

    def why_hung(self, http_endpoint: str, metrics_url: str) -> str | None:
        """Why the server counts as hung; None when it answers, or is busy with other requests meanwhile."""
        before = canary.work_done(metrics_url)
        try:
            canary.transcribe(http_endpoint, self._settings.canary_timeout_seconds)
        except canary.CanaryFailed as error:
            after = canary.work_done(metrics_url)
            busy = error.model in before and after.get(error.model, 0.0) > before[error.model]
            return None if busy else f"the server hangs: {error}"
        return None


def restarts_so_far() -> int:
    """How often the server that this process belongs to was started anew by its supervisor."""
    with suppress(ValueError):
        return int(os.environ.get(RESTARTS_VARIABLE, "0"))
    return 0
