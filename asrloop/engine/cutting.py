"""Brings the windows of long recordings into the queue: a thread for each recording, as many windows as its share allows."""

import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from asrloop.audio import SAMPLE_RATE
from asrloop.engine.recording import Recording
from asrloop.engine.request import Request
from asrloop.errors import DecodeFailed, Overloaded, RequestError
from asrloop.speech.windows import Cutter, Window

# A thread that waits for room looks again after this time, whether it was woken or not.
IDLE_SECONDS = 1.0


class Cutting(NamedTuple):
    """How recordings are cut that are too long for one window."""

    cutter: Callable[[], Cutter]
    """Makes the cutter of one recording."""

    whole_seconds: float
    """Longest audio that is not cut."""

    share: float = 0.5
    """Of the slots, for all their windows together."""

    most: int = 16
    """Such recordings that are worked on at once."""


class Queue(NamedTuple):
    """What the engine does for the threads here, each under its lock."""

    add: Callable[[Recording, Window], None]
    """Queue the next window."""

    end: Callable[[Request], None]
    """All windows of a recording are there: the request may be finished."""

    fail: Callable[[Request, RequestError], None]


class Recordings:
    """Those that are being cut. All methods are called under the engine's ``lock``."""

    def __init__(
        self, cutting: Cutting, slots: int, lock: threading.Lock, queue: Queue, guarded: Callable[..., None]
    ) -> None:
        """``guarded`` runs what a thread does, so that a bug in it is dealt with."""
        self._cutting = cutting
        self._share = int(cutting.share * slots)
        self._lock = lock
        self._room = threading.Condition(lock)
        self._queue = queue
        self._guarded = guarded
        self._listening = threading.Lock()
        """Held by the one recording that is listened to: more at once would take the cores from encoding and steps."""
        self.threads: dict[Recording, threading.Thread] = {}

    def check(self, request: Request) -> None:
        """Say which rows of a request must be cut. Raises Overloaded when there are too many already."""
        cutting = self._cutting
        for recording in request.recordings:
            if recording.long is None and recording.audio_seconds > cutting.whole_seconds:
                recording.make_long()
        if len(self.threads) + sum(recording.long is not None for recording in request.recordings) > cutting.most:
            raise Overloaded(
                f"{len(self.threads)} recordings longer than {cutting.whole_seconds:g} s are worked on already, the limit is "
                f"{cutting.most} (windows.recordings); retry later"
            )

    def start(self, request: Request) -> None:
        """Begin to cut the rows that must be."""
        for recording in request.recordings:
            if recording.long is not None:
                work = partial(self._cut, recording, request)
                name = f"asrloop-cut-{len(self.threads)}"
                self.threads[recording] = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
                self.threads[recording].start()

    def wake(self) -> None:
        """A window left, or a request ended."""
        self._room.notify_all()

    def _cut(self, recording: Recording, request: Request) -> None:
        """Queue its windows until it ends, or its request does."""
        if recording.long is None:
            raise AssertionError("nothing to cut")
        cutter = self._cutting.cutter()
        try:
            for block in recording.long.blocks:
                with self._listening:
                    windows = cutter.push(block)
                if not all(self._offer(recording, request, window) for window in windows):
                    return
                with self._lock:
                    recording.audio_seconds += block.size / SAMPLE_RATE
            if all(self._offer(recording, request, window) for window in cutter.finish()):
                with self._lock:
                    recording.is_cut = True
                    self._queue.end(request)
        except RequestError as error:
            with self._lock:
                self._queue.fail(request, error)
        except Exception as error:  # whatever is wrong with this audio concerns this request alone
            with self._lock:
                self._queue.fail(request, DecodeFailed(f"cutting the recording failed: {error!r}"))
        finally:
            with self._lock:
                del self.threads[recording]
                self.wake()

    def _offer(self, recording: Recording, request: Request, window: Window) -> bool:
        """Queue a window as soon as there is room for it; False when its request ended meanwhile."""
        with self._lock:
            while request.error is None and recording.under_way >= max(1, self._share // len(self.threads)):
                self._room.wait(IDLE_SECONDS)
            if request.error is not None:
                return False
            self._queue.add(recording, window)
            return True
