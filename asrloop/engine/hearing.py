"""Hears who speaks in a recording on a thread of its own: who cuts windows waits for room, and hearing need not."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

from asrloop.audio import Samples
from asrloop.engine.attribution import Diarizer, SpeakerTurn
from asrloop.errors import DecodeFailed

T = TypeVar("T")

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
        """Let ``block``, f32 [N], 16 kHz, be heard. Raises DecodeFailed where hearing an earlier one failed."""
        while len(self._heard) >= AHEAD:
            _result(self._heard.popleft())
        self._heard.append(self._thread.submit(self._hear, block))

    def finish(self) -> Sequence[SpeakerTurn]:
        """Return who spoke when. Raises DecodeFailed."""
        while self._heard:
            _result(self._heard.popleft())
        return _result(self._thread.submit(self._finish))

    def _hear(self, block: Samples) -> None:
        with self._one_at_a_time:
            self._diarizer.hear(block)

    def _finish(self) -> Sequence[SpeakerTurn]:
        with self._one_at_a_time:
            return self._diarizer.finish()


def _result(future: Future[T]) -> T:
    try:
        return future.result(PATIENCE_SECONDS)
    except TimeoutError:
        reason = f"a block was not heard for {PATIENCE_SECONDS:g} s; send it again when the server has less to do"
        raise DecodeFailed(f"telling speakers apart failed: {reason}") from None
    except Exception as error:  # whatever the diarizer raises concerns this request alone
        raise DecodeFailed(f"telling speakers apart failed: {error}") from error
