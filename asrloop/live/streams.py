"""The open streams of a server: a worker thread takes each one's audio in, has it decoded and tells its events. Knows no Triton."""

import math
import threading
import time
import traceback
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np

from asrloop.audio import Resampler, Samples
from asrloop.config import LiveSettings
from asrloop.engine.options import DEFAULTS, Options
from asrloop.errors import BadSequence, Cancelled, DecodeFailed, EngineClosed, Overloaded, RequestError
from asrloop.live.metrics import LiveMetrics
from asrloop.live.segmenter import SURE, Decoding, Event, Hypothesis, Segmenter

Decode = Callable[[Decoding, Options], Hypothesis]
"""Blocks. Raises RequestError."""
Check = Callable[[Options], None]
"""Blocks. Raises the RequestError that ends a stream before it begins."""

WATCH_SECONDS = 0.25
TRIES, PAUSE_SECONDS = 5, 0.2
"""The last decoding of a segment is tried again when the engine is too full for it."""

AHEAD_SECONDS = 2.0
"""Audio further ahead of recognition than this is answered later, so that a caller who sends faster can wait for the answers."""

TAKEN_SECONDS = 30.0
"""Most audio that a segmenter takes at once; none while it has more than ``AHEAD_SECONDS`` left."""

SHARE = 2.5
"""Least time between partials, as a multiple of the time that one took: partials become rarer before finals become late."""


class Listener(Protocol):
    """Receives the events of a stream."""

    def tell(self, event: Event) -> None:
        """Take the next event."""

    def end(self, error: RequestError | None) -> None:
        """Take the end of the stream; called once, as the last."""

    def has_left(self) -> bool:
        """Return True when nobody listens any more."""


class Streams:
    """All methods return at once. Those of a stream are named by ``key``, which may be used again when it is over.

    Triton does not tell from which connection a request comes. So when two callers start the same key, nobody can say whose the
    next chunk is: the key is closed to both, and neither's text gets the other's audio.
    """

    def __init__(
        self,
        make: Callable[[], Segmenter],
        decode: Decode,
        settings: LiveSettings,
        metrics: LiveMetrics,
        clock: Callable[[], float] = time.monotonic,
        check: Check = lambda _: None,
    ) -> None:
        self._make = make
        self._check = check
        self._decode = decode
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[object, _Open] = {}
        self._shared: dict[object, float] = {}
        """Keys that were started twice, and when the last chunk with each came."""
        self._workers = ThreadPoolExecutor(settings.streams, thread_name_prefix="asrloop-live")
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._watch_loop, name="asrloop-live-watch", daemon=True)
        self._watch.start()

    def __len__(self) -> int:
        return len(self._open)

    def claim(self, key: object) -> None:
        """Note a start before it is checked: whatever is wrong with a second one, its chunks follow, so it closes the key to both
        callers."""
        with self._lock:
            one = self._open.get(key)
        if one is None:
            return
        if one.listener.has_left():
            self._over(key, one, Cancelled("the caller of the stream left"))
        elif not one.is_ended:  # its caller would send more
            with self._lock:
                self._shared[key] = self._clock()
            one.close(_started_twice(key))  # what it has heard is its own, and is told
            self._wake(key, one)

    def start(self, key: object, listener: Listener, sample_rate: int, options: Options = DEFAULTS) -> None:
        """Open a stream of samples at ``sample_rate`` Hz. Raises BadSequence, Overloaded, EngineClosed."""
        if not key:
            raise BadSequence("sequence_id is missing: give each stream an id of its own, a long random string")
        self.claim(key)
        with self._lock:
            if self._closed.is_set():
                raise EngineClosed("the server is closing: start the stream again")
            if key in self._shared:
                raise _started_twice(key)
            if key in self._open:
                raise BadSequence(f"sequence {key!r} is open already: wait for its last answer, or take another id")
            if len(self._open) >= self._settings.streams:
                raise Overloaded(f"{len(self._open)} streams are open (live.streams); retry later")
            self._open[key] = _Open(self._make(), listener, sample_rate, options, self._clock())

    def hear(self, key: object, samples: Samples, answer: Callable[[], None] | None = None) -> None:
        """Take the next samples of a stream, f32 [N], also none. Raises BadSequence, Overloaded.

        ``answer`` is called once, if this raises nothing: at once, or, where the stream is more than ``AHEAD_SECONDS`` ahead of its
        recognition, when it no longer is, or is over.
        """
        one = self._of(key)
        with one.lock:
            if one.is_ended or one.is_over:
                raise BadSequence(f"sequence {key!r} was ended: start a new one")
            one.last_heard = one.idle_since = self._clock()
            ahead = one.sent_seconds + samples.size / one.sample_rate - one.recognised_seconds
            is_too_far = ahead > self._settings.backlog_seconds
            if not is_too_far:
                one.inbox.append(samples)
                one.sent_seconds += samples.size / one.sample_rate
                if answer is not None and ahead > AHEAD_SECONDS:
                    one.unanswered.append((one.sent_seconds, answer))
                    answer = None
        if is_too_far:
            error = Overloaded(
                f"the stream is {ahead:.0f} s ahead of its recognition (live.backlog_seconds: "
                f"{self._settings.backlog_seconds:g}): send slower, or wait for the answers to its chunks"
            )
            self._over(key, one, error)
            raise error
        if answer is not None:
            answer()
        self._wake(key, one)

    def end(self, key: object) -> None:
        """Take the end of the samples. Raises BadSequence."""
        one = self._of(key)
        with one.lock:
            if one.is_ended:
                raise BadSequence(f"sequence {key!r} was ended before")
            one.is_ended = True
        self._wake(key, one)

    def close(self) -> None:
        """End all streams with EngineClosed."""
        self._closed.set()
        for key, one in list(self._open.items()):
            self._over(key, one, EngineClosed("the server is closing: start the stream again"))
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._watch.join(5)

    def _of(self, key: object) -> "_Open":
        with self._lock:
            if key in self._shared:
                self._shared[key] = self._clock()
                raise _started_twice(key)
            if key not in self._open:
                raise BadSequence(f"sequence {key!r} is not open: send a request with sequence_start first")
            return self._open[key]

    def _wake(self, key: object, one: "_Open") -> None:
        with one.lock:
            if one.is_busy or one.is_over:
                return
            one.is_busy = True
        try:
            self._workers.submit(self._work, key, one)
        except RuntimeError:  # closed meanwhile; the stream was told
            return

    def _work(self, key: object, one: "_Open") -> None:
        try:
            if not one.is_checked:
                one.is_checked = True
                self._check(one.options)
            while not one.is_over and (one.take_on(self._clock()) or self._go_on(key, one)):
                pass
        except RequestError as error:
            self._over(key, one, error)
        except Exception as error:  # a bug of ours concerns this stream alone
            traceback.print_exc()
            self._over(key, one, DecodeFailed(f"the stream failed: {error!r}"))

    def _go_on(self, key: object, one: "_Open") -> bool:
        """Tell the events that are due and decode what is due; False when there is nothing to do."""
        for event in one.segmenter.events():
            one.listener.tell(event)
            is_first, one.last_told = event.segment != one.last_told, event.segment
            self._metrics.told(event, self._clock(), one.arrived_at, first=is_first)
        one.answer_chunks(self._clock())
        if one.segmenter.is_finished:
            self._over(key, one, one.error)
            return False
        decoding = one.segmenter.decoding()
        if decoding is None:
            return not one.rest()
        started = self._clock()
        try:
            found = self._decode(decoding, one.options)
            one.take_language(decoding, found)
            one.segmenter.decoded(decoding, found)
            one.tries = 0
        except Overloaded:
            one.segmenter.failed()
            one.tries += 1
            if decoding.over_at is not None and one.tries >= TRIES:
                raise
            self._closed.wait(PAUSE_SECONDS)
        one.segmenter.interval = max(self._settings.interval_seconds, SHARE * (self._clock() - started))
        return True

    def _over(self, key: object, one: "_Open", error: RequestError | None) -> None:
        with self._lock:
            if one.is_over:
                return
            one.is_over = True
            if self._open.get(key) is one:
                del self._open[key]
        self._metrics.ended(error)
        one.answer_chunks(self._clock(), all_of_them=True)
        one.listener.end(error)

    def _watch_loop(self) -> None:
        limit = self._settings.idle_seconds
        while not self._closed.wait(WATCH_SECONDS):
            with self._lock:
                for key in [
                    key for key, at in self._shared.items() if self._clock() - at > limit and key not in self._open
                ]:
                    del self._shared[key]
            for key, one in list(self._open.items()):
                if one.listener.has_left():
                    self._over(key, one, Cancelled("the caller of the stream left"))
                elif not (one.is_ended or one.unanswered) and self._clock() - one.idle_since > limit:
                    why = f"sequence {key!r} sent nothing for {limit:g} s (live.idle_seconds): send silence, or end it"
                    self._over(key, one, BadSequence(why))


def _started_twice(key: object) -> BadSequence:
    return BadSequence(
        f"sequence {key!r} is open already, and its chunks cannot be told from those of a second start: it is closed to both. "
        "Start again with another id, a long random string"
    )


class _Open:
    """One open stream, and the audio that its segmenter has not taken yet."""

    def __init__(
        self, segmenter: Segmenter, listener: Listener, sample_rate: int, options: Options, now: float
    ) -> None:
        self.segmenter = segmenter
        self.options = options
        self.listener = listener
        self.sample_rate = sample_rate
        self.lock = threading.Lock()
        self.inbox: deque[Samples] = deque()
        self.sent_seconds = self.recognised_seconds = 0.0
        """Ends of the audio that came, and of that whose events were told."""
        self.unanswered: deque[tuple[float, Callable[[], None]]] = deque()
        """Ends of chunks that are far ahead of recognition, and what answers them."""
        self.is_ended = self.is_busy = self.is_over = self.is_checked = False
        self.error: RequestError | None = None
        """The error that the stream ends with when all that it has heard is told."""
        self.last_heard = now
        self.idle_since = now
        """Since when the caller need not wait for an answer before the next chunk."""
        self.tries = 0
        self.last_told = -1
        """The segment of the last event."""
        self._is_end_told = False
        self._resample = Resampler(sample_rate)
        self._arrivals: deque[tuple[float, float]] = deque(maxlen=2000)
        """Seconds of the stream, and when they came."""

    def close(self, error: RequestError) -> None:
        """Take no more audio, and end with ``error``."""
        with self.lock:
            self.is_ended, self.error = True, error

    def take_language(self, decoding: Decoding, found: Hypothesis) -> None:
        """Keep the language of the first segment whose text is sure. A cough that sounds Welsh must not decide about an hour."""
        is_sure = decoding.over_at is not None and found.words and found.confidence >= SURE
        if is_sure and found.language and not self.options.language:
            self.options = replace(self.options, language=found.language)

    def take_on(self, now: float) -> bool:
        """Give the segmenter the audio that came; False when none did, or when it has enough."""
        if self.segmenter.heard_seconds - self.segmenter.recognised_seconds > AHEAD_SECONDS:
            return False
        samples: list[Samples] = []
        with self.lock:
            room = TAKEN_SECONDS * self.sample_rate
            while self.inbox and room > 0:
                samples.append(self.inbox.popleft())
                room -= samples[-1].size
            ended, arrived = self.is_ended and not self.inbox, self.last_heard
        if samples:
            self.segmenter.hear(self._resample(np.concatenate(samples), last=False))
            self._arrivals.append((self.segmenter.heard_seconds, arrived))
        if ended and not self._is_end_told:
            self._is_end_told = True
            self.segmenter.hear(self._resample(np.zeros(0, np.float32), last=True))
            self.segmenter.end()
            return True
        return bool(samples)

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
            self.is_busy = bool(self.inbox) or self.is_ended != self._is_end_told
            return not self.is_busy

    def arrived_at(self, seconds: float) -> float:
        """Return when the sample at ``seconds`` of the stream came, on the clock."""
        at = bisect_left(self._arrivals, (seconds,))
        return self._arrivals[min(at, len(self._arrivals) - 1)][1]
