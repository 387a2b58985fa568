"""Cancelling: by a caller's token, and at the server."""

from __future__ import annotations

import struct
import threading
import weakref
from concurrent.futures import Future
from typing import Any

from asrloop_client.wire import new_request

CANCEL_TIMEOUT = 10.0
"""Seconds for the call that tells the server to end a transcription nobody waits for."""


class CancelToken:
    """Given to calls; `cancel()` from any thread ends them, and every later one, with Cancelled and tells the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        self.cancelled = False
        """True after `cancel()`."""

    def cancel(self) -> None:
        """Stop the calls. A second time does nothing."""
        with self._lock:
            self.cancelled = True
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def add(self, future: Future[Any]) -> None:
        """Have `cancel()` cancel this one too."""
        with self._lock:
            self._futures.add(future)
        if self.cancelled:
            future.cancel()


def control_request(model: str, order: str, cancel_key: str) -> bytes:
    """Return a request that has the decode loop `cancel` the requests with this key, or report their `progress`.

    Its single sample is not transcribed.
    """
    request = new_request(model, "", {order: cancel_key})
    request.inputs.add(name="SAMPLES", datatype="FP32", shape=[1, 1])
    request.inputs.add(name="SAMPLE_LENS", datatype="INT32", shape=[1, 1])
    request.raw_input_contents.extend((struct.pack("<f", 0.0), struct.pack("<i", 1)))
    return bytes(request.SerializeToString())
