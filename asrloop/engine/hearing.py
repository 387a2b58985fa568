"""Hears who speaks in a recording on a thread of its own: who cuts windows waits for room, and hearing need not."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from asrloop.audio import Samples
from asrloop.engine.attribution import Diarizer, SpeakerTurn

AHEAD = 60
"""Blocks that may wait to be heard. They are of a second each, or few."""

PATIENCE_SECONDS = 300.0
"""Longest wait for a block to be heard: far more than it takes, also behind many other recordings."""


class Hearing:
    """Hears one recording. Use it as a context manager: leaving drops what was not heard."""

    def __init__(self, diarizer: Diarizer, one_at_a_time: Lock) -> None:
        """``one_at_a_time`` is held while anything is heard: more recordings at once would take cores from encoding and steps."""
        self._diarizer = diarizer
        self._one_at_a_time = one_at_a_time
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="asrloop-speakers")
        self._heard: deque[Future[None]] = deque()

    def __enter__(self) -> "Hearing":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def hear(self, block: Samples) -> None:
        """Let ``block``, f32 [N], 16 kHz, be heard. Raises what hearing an earlier one raised."""
        while len(self._heard) >= AHEAD:
            self._heard.popleft().result(PATIENCE_SECONDS)
        self._heard.append(self._thread.submit(self._hear, block))

    def finish(self) -> Sequence[SpeakerTurn]:
        """Return who spoke when."""
        while self._heard:
            self._heard.popleft().result(PATIENCE_SECONDS)
        return self._thread.submit(self._finish).result(PATIENCE_SECONDS)

    def _hear(self, block: Samples) -> None:
        with self._one_at_a_time:
            self._diarizer.hear(block)

    def _finish(self) -> Sequence[SpeakerTurn]:
        with self._one_at_a_time:
            return self._diarizer.finish()
