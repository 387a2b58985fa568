"""Long recordings wait in line; then a thread for each cuts windows and queues them as fast as they are decoded."""

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

from asrloop.audio import SAMPLE_RATE
from asrloop.engine.attribution import SpeakerTurn
from asrloop.engine.hearing import Hearing
from asrloop.engine.recording import Recording
from asrloop.engine.request import Request
from asrloop.errors import DecodeFailed, RequestError
from asrloop.speech.windows import Cutter, Window

# A thread that waits for room looks again after this time, whether it was woken or not.
IDLE_SECONDS = 1.0


class Cutting(NamedTuple):
    """Settings for cutting recordings that are longer than one window."""

    cutter: Callable[[], Cutter]
    """Makes the cutter of one recording."""

    whole_seconds: float
    """Longest audio that is not cut."""

    share: float = 0.5
    """Share of the slots for all their windows together."""

    most: int = 16
    """Recordings that are cut at once. Others wait in line."""


class Queue(NamedTuple):
    """The engine's side, each called under its lock."""

    add: Callable[[Request, Recording, Window], None]
    """Queue the next window."""

    under_way: Callable[[Request, Recording], int]
    """Count the unfinished windows of a recording."""

    heard: Callable[[Request, Recording, Sequence[SpeakerTurn] | None], None]
    """Note that all windows of a recording are there, and who spoke, where somebody asked."""

    fail: Callable[[Request, RequestError], None]


class _InLine(NamedTuple):
    """A recording that waits to be cut. The one with the smallest turn is next."""

    turn: float
    number: int
    """Keeps equals in order of arrival."""

    recording: Recording
    request: Request


class LongRecordings:
    """Recordings in line, and recordings that are being cut. All methods are called under the engine's ``lock``."""

    def __init__(
        self, cutting: Cutting, slots: int, lock: threading.Lock, queue: Queue, guarded: Callable[..., None]
    ) -> None:
        """``guarded`` runs a thread's work, so that a bug in it is dealt with."""
        self._cutting = cutting
        self._share = int(cutting.share * slots)
        self._lock = lock
        self._room = threading.Condition(lock)
        self._queue = queue
        self._guarded = guarded
        self._listening = threading.Lock()
        """Held by the one recording in which speech is being detected: more at once would take cores from encoding and steps."""
        self._hearing = threading.Lock()
        """The same for the one whose speakers are told apart."""
        self._line: list[_InLine] = []
        self._count = 0
        self.threads: dict[Recording, threading.Thread] = {}

    @property
    def waiting(self) -> int:
        """Recordings in line."""
        return len(self._line)

    def add(self, request: Request, recording: Recording, turn: float) -> None:
        """Put a recording in line. The smallest ``turn`` is cut first."""
        self._count += 1
        self._line.append(_InLine(turn, self._count, recording, request))

    def start(self) -> None:
        """Start a thread for each recording whose turn it is."""
        while self._line and len(self.threads) < self._cutting.most:
            self._line.remove(one := min(self._line, key=lambda one: (one.turn, one.number)))
            work = partial(self._cut, one.recording, one.request)
            name = f"asrloop-cut-{one.number}"
            thread = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            self.threads[one.recording] = thread
            thread.start()

    def leave(self, request: Request) -> None:
        """Take a request that ended out of the line, and wake its threads."""
        self._line = [one for one in self._line if one.request is not request]
        self.wake()

    def waited_too_long(self, now: float, limit: float) -> list[Request]:
        """Return requests without a time limit of their own that have been in line for longer than ``limit`` seconds."""
        requests = [one.request for one in self._line]
        return [one for one in requests if one.deadline is None and now - one.arrived_at > limit]

    def wake(self) -> None:
        """Let the threads look whether a window left or a request ended."""
        self._room.notify_all()

    def _cut(self, recording: Recording, request: Request) -> None:
        """Queue the windows of a recording until it ends, or its request does."""
        if recording.long is None:
            raise AssertionError("nothing to cut")
        cutter, diarizer = self._cutting.cutter(), recording.diarizer
        try:
            with nullcontext() if diarizer is None else Hearing(diarizer, self._hearing) as hearing:
                for block in recording.long.blocks:
                    if hearing:
                        hearing.hear(block)
                    with self._listening:
                        windows = cutter.push(block)
                    if not all(self._offer(recording, request, window) for window in windows):
                        return
                    with self._lock:
                        recording.audio_seconds += block.size / SAMPLE_RATE
                        if request.error is not None:
                            return
                if all(self._offer(recording, request, window) for window in cutter.finish()):
                    turns = hearing.finish() if hearing else None
                    with self._lock:
                        self._queue.heard(request, recording, turns)
        except RequestError as error:
            with self._lock:
                self._queue.fail(request, error)
        except Exception as error:  # whatever is wrong with this audio concerns this request alone
            with self._lock:
                self._queue.fail(request, DecodeFailed(f"cutting the recording failed: {error!r}"))
        finally:
            with self._lock:
                del self.threads[recording]
                self.start()
                self.wake()

    def _offer(self, recording: Recording, request: Request, window: Window) -> bool:
        """Queue a window as soon as there is room for it; False when its request ended meanwhile."""
        with self._lock:
            while request.error is None and self._queue.under_way(request, recording) >= self._share_of_each:
                self._room.wait(IDLE_SECONDS)
            if request.error is not None:
                return False
            self._queue.add(request, recording, window)
            return True

    @property
    def _share_of_each(self) -> int:
        return max(1, self._share // len(self.threads))
