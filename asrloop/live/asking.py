"""Asks the turn detector, about a few pauses at a time: where it has too much to do, or fails, silence decides."""

import threading
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from asrloop.audio import Samples
from asrloop.live.endings import UNANSWERED
from asrloop.live.metrics import LiveMetrics

WAITING = 3
"""Questions that wait for each that is being answered. More are not asked: their answers would come too late."""

Judge = Callable[[Samples], float]
"""Returns how probable it is that who speaks in f32 [N], 16 kHz, is done, 0..1."""


class Asking:
    """Keeps the questions that are under way."""

    def __init__(self, judge: Judge, at_once: int, wait_seconds: float, metrics: LiveMetrics) -> None:
        """Wait for an answer of ``judge`` for ``wait_seconds`` at most, while it answers ``at_once``."""
        self._judge = judge
        self._wait_seconds = wait_seconds
        self._metrics = metrics
        self._room = threading.BoundedSemaphore(at_once * (1 + WAITING))
        self._workers = ThreadPoolExecutor(at_once, thread_name_prefix="asrloop-live-turns")
        self._has_failed = self._is_ready = False

    def get_ready(self) -> None:
        """Have the detector opened: its first answer takes long, and nobody waits for that one."""
        if not self._is_ready:
            self._is_ready = True
            with suppress(RuntimeError):  # closed
                self._workers.submit(self._judge, np.zeros(0, np.float32))

    def begin(self, samples: Samples) -> Callable[[], float]:
        """Ask, and return what waits for the answer: a probability, or UNANSWERED."""
        if not self._room.acquire(blocking=False):
            return lambda: self._unanswered("busy")
        try:
            future = self._workers.submit(self._judge, samples)
        except RuntimeError:  # closed
            self._room.release()
            return lambda: UNANSWERED
        future.add_done_callback(lambda _: self._room.release())
        return lambda: self._answer(future)

    def close(self) -> None:
        """Drop what waits."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _answer(self, future: Future[float]) -> float:
        try:
            answer = future.result(self._wait_seconds)
        except (TimeoutError, CancelledError):
            future.cancel()
            return self._unanswered("busy")
        except Exception:  # whatever is wrong with it, live audio goes on without it
            if not self._has_failed:
                traceback.print_exc()
            self._has_failed = True
            return self._unanswered("failed")
        self._metrics.asked("answered")
        return answer

    def _unanswered(self, outcome: str) -> float:
        self._metrics.asked(outcome)
        return UNANSWERED
