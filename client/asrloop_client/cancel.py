"""Cancelling a blocking call from another thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from asrloop_client.errors import Cancelled


class CancelToken:
    """Given to a call; `cancel()` from any thread ends the call with Cancelled and tells the server.

    One token may be given to several calls; it stops them all, and every later one.
    """

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._stops: set[Callable[[], object]] = set()

    def cancel(self) -> None:
        """Stop the calls. A second time does nothing."""
        with self._lock:
            self._cancelled.set()
            stops = list(self._stops)
        for stop in stops:
            stop()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel()` was called."""
        return self._cancelled.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`; raises Cancelled as soon as the token is cancelled, at once if it already is."""
        if self._cancelled.wait(seconds):
            raise Cancelled("the call was cancelled by the caller.")

    @contextlib.contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        """Have `cancel()` call `stop` while the block runs; at once if it was called before."""
        with self._lock:
            self._stops.add(stop)
        try:
            if self.cancelled:
                stop()
            yield
        finally:
            with self._lock:
                self._stops.discard(stop)
