"""One open stream of live audio: takes its audio in, has it decoded and its pauses judged, and tells its events."""

import math
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from asrloop.audio import Resampler, Samples
from asrloop.engine.options import Options
from asrloop.errors import Overloaded, RequestError
from asrloop.live.calls import Decoded, Running
from asrloop.live.decodings import Decoding, Hypothesis, Question
from asrloop.live.events import Event
from asrloop.live.segmenter import SURE, Segmenter

TRIES = 5
"""The last decoding of a segment is tried again when the engine is too full for it."""

AHEAD_SECONDS = 2.0
"""Audio further ahead of recognition than this is answered later, so that a caller who sends faster can wait for the answers."""

TAKEN_SECONDS = 30.0
"""Most audio that a segmenter takes at once; none while it has more than ``AHEAD_SECONDS`` left."""

SHARE = 2.5
"""Least time between partials, as a multiple of the time that one took: partials become rarer before finals become late."""


Ended = Decoded | tuple[Question, float] | RequestError
"""The end of a decoding, an answer of the turn detector, or why the stream cannot go on."""


class Listener(Protocol):
    """Receives the events of a stream."""

    def tell(self, event: Event) -> None:
        """Take the next event."""

    def end(self, error: RequestError | None) -> None:
        """Take the end of the stream; called once, as the last."""

    def has_left(self) -> bool:
        """Return True when nobody listens any more."""


class Stream:
    """Keeps the audio that the segmenter has not taken yet, and what is under way in the models."""

    def __init__(
        self, segmenter: Segmenter, listener: Listener, sample_rate: int, options: Options, now: float
    ) -> None:
        self.segmenter = segmenter
        self.options = options
        self.listener = listener
        self.sample_rate = sample_rate
        self.lock = threading.Lock()
        self.inbox: deque[tuple[Samples, bool]] = deque()
        """Samples, and True where the open segment ends behind them."""
        self.sent_seconds = self.recognised_seconds = 0.0
        """Ends of the audio that came, and of that whose events were told."""
        self.unanswered: deque[tuple[float, Callable[[], None]]] = deque()
        """Ends of chunks that are far ahead of recognition, and what answers them."""
        self.is_ended = self.is_busy = self.is_over = False
        self.error: RequestError | None = None
        """The error that the stream ends with when all that it has heard is told."""
        self.last_heard = now
        self.idle_since = now
        """Since when the caller need not wait for an answer before the next chunk."""
        self.running: Running | None = None
        """The decoding that is waited for."""
        self.ended: deque[Ended] = deque()
        """Ends of calls that the segmenter has not got yet."""
        self._tries = 0
        """How often the engine was too full for the last decoding. Partials may come later, or never."""
        self._last_told = -1
        """The segment of the last event."""
        self._is_end_told = False
        self._resample = Resampler(sample_rate)
        self._arrivals: deque[tuple[float, float]] = deque(maxlen=2000)
        """Seconds of the stream, and when they came."""

    def close(self, error: RequestError) -> None:
        """Take no more audio, and end with ``error``."""
        with self.lock:
            self.is_ended, self.error = True, error

    def told(self) -> Iterator[tuple[Event, bool]]:
        """Tell the events that are due, and yield each, with True for the first of its segment."""
        for event in self.segmenter.events():
            self.listener.tell(event)
            is_first, self._last_told = event.segment != self._last_told, event.segment
            yield event, is_first

    def drop(self, running: Running, least_interval: float) -> None:
        """Wait no longer for a decoding."""
        self.running = None
        self.segmenter.failed(running.decoding)
        self.segmenter.interval = max(least_interval, SHARE * (time.monotonic() - running.began))

    def take_ends(self, least_interval: float) -> bool:
        """Give the segmenter what ended in the models; False when nothing did. Raises RequestError for what ends the stream."""
        with self.lock:
            ended = list(self.ended)
            self.ended.clear()
        for one in ended:
            if isinstance(one, RequestError):
                raise one
            if isinstance(one, Decoded):
                self._take_decoded(one, least_interval)
            else:
                self.segmenter.answered(*one)
        return bool(ended)

    def _take_decoded(self, one: Decoded, least_interval: float) -> None:
        if self.running is None or one.decoding is not self.running.decoding:  # it was not waited for
            return
        self.running = None
        self.segmenter.interval = max(least_interval, SHARE * one.seconds)
        if isinstance(one.found, Hypothesis):
            self._tries = 0
            self._take_language(one.decoding, one.found)
            self.segmenter.decoded(one.decoding, one.found)
            return
        self.segmenter.failed(one.decoding)
        is_last = one.decoding.over_at is not None
        self._tries += is_last
        if not isinstance(one.found, Overloaded) or (is_last and self._tries >= TRIES):
            raise one.found

    def _take_language(self, decoding: Decoding, found: Hypothesis) -> None:
        """Keep the language of the first segment whose text is sure. A cough that sounds Welsh must not decide about an hour."""
        is_sure = decoding.over_at is not None and found.words and found.confidence >= SURE
        if is_sure and found.language and not self.options.language:
            self.options = replace(self.options, language=found.language)

    def take_on(self, now: float) -> bool:
        """Give the segmenter the audio that came; False when none did, or when it has enough."""
        if self._has_enough:
            return False
        samples: list[Samples] = []
        ends_segment = False
        with self.lock:
            room = TAKEN_SECONDS * self.sample_rate
            while self.inbox and room > 0 and not ends_segment:
                piece, ends_segment = self.inbox.popleft()
                samples.append(piece)
                room -= piece.size
            ended, arrived = self.is_ended and not self.inbox, self.last_heard
        if samples:
            self.segmenter.hear(self._resample(np.concatenate(samples), last=False))
            self._arrivals.append((self.segmenter.heard_seconds, arrived))
        if ends_segment:
            self.segmenter.end_segment()
        if ended and not self._is_end_told:
            self._is_end_told = True
            self.segmenter.hear(self._resample(np.zeros(0, np.float32), last=True))
            self.segmenter.end()
            return True
        return bool(samples)

    @property
    def _has_enough(self) -> bool:
        """True while the segmenter waits for a call, whose end wakes a thread, and has audio to go on with then."""
        return self.segmenter.heard_seconds - self.segmenter.recognised_seconds > AHEAD_SECONDS

    def answer_chunks(self, now: float, *, all_of_them: bool = False) -> None:
        """Answer the chunks that recognition has come near to. Their events were told before."""
        self.recognised_seconds = self.segmenter.recognised_seconds
        answers = []
        with self.lock:
            limit = math.inf if all_of_them else self.recognised_seconds + AHEAD_SECONDS
            while self.unanswered and self.unanswered[0][0] <= limit:
                answers.append(self.unanswered.popleft()[1])
                self.idle_since = now
        for answer in answers:
            answer()

    def rest(self) -> bool:
        """Return True when there is nothing to do; then the next audio must wake a thread."""
        with self.lock:
            has_audio = bool(self.inbox) or self.is_ended != self._is_end_told
            self.is_busy = bool(self.ended) or (has_audio and not self._has_enough)
            return not self.is_busy

    def arrived_at(self, seconds: float) -> float:
        """Return when the sample at ``seconds`` of the stream came, on the clock."""
        at = bisect_left(self._arrivals, (seconds,))
        return self._arrivals[min(at, len(self._arrivals) - 1)][1]
