"""The open streams of a server: who may start, send and end them, and the threads that work for them. Knows no Triton."""

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from asrloop.audio import Samples
from asrloop.config import LiveSettings
from asrloop.engine.options import DEFAULTS, Options
from asrloop.engine.turns import SEMANTIC, Turns
from asrloop.errors import BadSequence, Cancelled, DecodeFailed, EngineClosed, Overloaded, RequestError
from asrloop.live.asking import Asking
from asrloop.live.calls import Calls, Loops
from asrloop.live.metrics import LiveMetrics
from asrloop.live.segmenter import Segmenter
from asrloop.live.stream import AHEAD_SECONDS, Ended, Listener, Stream

WATCH_SECONDS = 0.25
WORKERS = 4
"""Threads that take audio in. They wait for nothing, so that a few serve all streams."""

CALLS = 3
"""Calls of a stream that may be under way at once: a decoding, one that is no longer wanted, and a question or a cancellation."""


class Streams:
    """All methods return at once. Those of a stream are named by ``key``, which may be used again when it is over.

    Triton does not tell from which connection a request comes. So when two callers start the same key, nobody can say whose the
    next chunk is: the key is closed to both, and neither's text gets the other's audio.
    """

    def __init__(
        self,
        make: Callable[[Turns], Segmenter],
        loops: Loops,
        asking: Asking,
        settings: LiveSettings,
        metrics: LiveMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[object, Stream] = {}
        self._shared: dict[object, float] = {}
        """Keys that were started twice, and when the last chunk with each came."""
        self._calls = Calls(loops, asking, CALLS * settings.streams)
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="asrloop-live")
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
        if options.turns.detection == SEMANTIC:
            self._calls.get_ready()
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
            one = self._open[key] = Stream(self._make(options.turns), listener, sample_rate, options, self._clock())
        self._calls.check(options, partial(self._ended, key, one))

    def hear(
        self, key: object, samples: Samples, answer: Callable[[], None] | None = None, *, ends_segment: bool = False
    ) -> None:
        """Take the next samples of a stream, f32 [N], also none, behind which its open segment may end. Raises BadSequence,
        Overloaded.

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
                one.inbox.append((samples, ends_segment))
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
        with self._lock:  # so that no start comes between
            self._closed.set()
            still_open = list(self._open.items())
        for key, one in still_open:
            self._over(key, one, EngineClosed("the server is closing: start the stream again"))
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._calls.close()
        self._watch.join(5)

    def _of(self, key: object) -> "Stream":
        with self._lock:
            if key in self._shared:
                self._shared[key] = self._clock()
                raise _started_twice(key)
            if key not in self._open:
                raise BadSequence(f"sequence {key!r} is not open: send a request with sequence_start first")
            return self._open[key]

    def _wake(self, key: object, one: "Stream") -> None:
        with one.lock:
            if one.is_busy or one.is_over:
                return
            one.is_busy = True
        try:
            self._workers.submit(self._work, key, one)
        except RuntimeError:  # closed meanwhile; the stream was told
            return

    def _work(self, key: object, one: Stream) -> None:
        try:
            while not one.is_over and (
                one.take_ends(self._settings.interval_seconds) or one.take_on(self._clock()) or self._go_on(key, one)
            ):
                pass
        except RequestError as error:
            self._over(key, one, error)
        except Exception as error:  # a bug of ours concerns this stream alone
            traceback.print_exc()
            self._over(key, one, DecodeFailed(f"the stream failed: {error!r}"))

    def _go_on(self, key: object, one: Stream) -> bool:
        """Tell the events that are due and begin what is due; False when there is nothing to do before something comes."""
        for event, is_first in one.told():
            self._metrics.told(event, self._clock(), one.arrived_at, first=is_first)
        one.answer_chunks(self._clock())
        if one.segmenter.is_finished:
            self._over(key, one, one.error)
            return False
        self._begin(key, one)
        return not one.rest()

    def _ended(self, key: object, one: Stream, ended: Ended) -> None:
        """Take the end of a call."""
        with one.lock:
            one.ended.append(ended)
        self._wake(key, one)

    def _begin(self, key: object, one: Stream) -> None:
        """Begin what the segmenter wants to know, and end what it does not want to know any more."""
        take = partial(self._ended, key, one)
        running = one.running
        if running is not None and not one.segmenter.wants(running.decoding):
            one.drop(running, self._settings.interval_seconds)
            self._calls.cancel(running)
        decoding = one.segmenter.decoding()
        if decoding is not None:
            one.running = self._calls.decode(decoding, one.options, take)
        question = one.segmenter.question()
        if question is not None:
            self._calls.judge(question.samples, lambda answer: take((question, answer)))

    def _over(self, key: object, one: "Stream", error: RequestError | None) -> None:
        with self._lock:
            if one.is_over:
                return
            one.is_over = True
            if self._open.get(key) is one:
                del self._open[key]
        if one.running is not None:
            self._calls.cancel(one.running)
        self._metrics.ended(error)
        one.answer_chunks(self._clock(), all_of_them=True)
        one.listener.end(error)

    def _watch_loop(self) -> None:
        while not self._closed.wait(WATCH_SECONDS):
            self._end_those_who_left()

    def _end_those_who_left(self) -> None:
        # Apart from the loop, which would keep the last stream while nothing happens.
        limit = self._settings.idle_seconds
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
