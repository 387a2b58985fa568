"""The engine: continuous batching of utterances over one model family. It starts the threads and knows no Triton.

    submit -> waiting -> [encode: resample, part at long pauses, encode] -> encoded -> [step a batch: admit, step, step ... finish]
           -> [gated, until somebody listened for speech] -> [answer]

Its threads are all alike, and do what is in brackets as it comes up (working.py). Several batches may run side by side, each with
slots and K/V memory of its own; all else is one.
A recording that is longer than a window waits in line for a thread of its own that cuts it: its windows wait with everybody else's
utterances. A watch thread looks for deadlines and for callers that left.
"""

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from asrloop.engine.attribution import Diarizer
from asrloop.engine.cancelled_keys import CancelledKeys
from asrloop.engine.cutting import Cutting
from asrloop.engine.encoding import Encoding, FindQuiet, HasSpeech
from asrloop.engine.family import Family
from asrloop.engine.options import SPEAKERS
from asrloop.engine.recording import Progress
from asrloop.engine.request import Answered, Request
from asrloop.engine.scheduler import Scheduler
from asrloop.engine.stepping import StepLoop
from asrloop.engine.utterance import Finished, Utterance
from asrloop.engine.word_times import token_spans
from asrloop.engine.work import Work
from asrloop.engine.working import Working
from asrloop.errors import Cancelled, EngineClosed, InvalidOption, RequestError
from asrloop.speech.pauses import spoken

# How often deadlines are looked at; rows leave at the step after.
WATCH_SECONDS = 0.02
# How often a caller is asked whether it is still there. Through Triton each question takes about 0.25 ms.
ASK_SECONDS = 0.25
# Longest time that others have for their answers when a thread ended by an exception.
LAST_WORDS_SECONDS = 1.0

OpenDiarizer = Callable[[int | None], Diarizer]
"""Takes how many speakers there are at most, None where that is not known. Raises OSError where a file is missing."""

_CANCELLED = "the caller cancelled the request"


class EngineObserver(Protocol):
    """Hears what the engine does. Called on the engine's threads: must be quick and must not raise."""

    def stepped(self, rows: int, seconds: float) -> None:
        """Note a step of ``rows`` rows."""

    def finished(self, utterance: Finished) -> None:
        """Note the end of an utterance, well or not."""

    def answered(self, recording: Answered) -> None:
        """Note a row of a request that is about to be answered, well or not."""


class _Nobody:
    """Hears nothing."""

    def stepped(self, rows: int, seconds: float) -> None:
        pass

    def finished(self, utterance: Finished) -> None:
        pass

    def answered(self, recording: Answered) -> None:
        pass


class Engine:
    """Decodes utterances side by side. ``submit`` returns at once; each request's ``on_done`` is called exactly once."""

    def __init__(
        self,
        family: Family[Any],
        scheduler: Scheduler,
        observer: EngineObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_bug: Callable[[], None] | None = None,
        has_speech: HasSpeech | None = None,
        cutting: Cutting | None = None,
        find_quiet: FindQuiet | None = None,
        diarizer: OpenDiarizer | None = None,
    ) -> None:
        """``on_bug`` is called when a thread of the engine ended by an exception, after everybody was answered.

        ``has_speech`` is asked about 16 kHz samples while their first steps are made; those without are answered with no text.
        Without ``cutting`` every row is decoded whole. ``find_quiet`` finds pauses where somebody wants the times of words.
        ``diarizer`` makes what hears who speaks in one recording.
        """
        self.family = family
        self.scheduler = scheduler
        self.clock = clock
        self._observer = observer or _Nobody()
        self._on_bug = on_bug
        self._diarizer = diarizer
        self._work = Work(
            scheduler,
            clock,
            family.info.turn_cost,
            cutting,
            self._guarded,
            detects_language=family.info.detects_language,
        )
        self._cancelled = CancelledKeys()
        self._closed = threading.Event()
        self._why_closed = ""
        encode = Encoding(
            self._work, family, has_speech, cutting and partial(spoken, cutter=cutting.cutter), find_quiet
        )
        batches = [family, *(family.open_batch() for _ in scheduler.batches[1:])]
        steps = [
            StepLoop(self._work, batch, slots, self._observer.stepped)
            for batch, slots in zip(batches, scheduler.batches, strict=True)
        ]
        working = partial(Working(self._work, encode, steps, self._answer).run, self._closed.is_set)
        # So many can be busy with graphs, one of them because it is found out who speaks in what the last encoder encodes; one
        # more answers meanwhile.
        threads = scheduler.encoders + len(steps) + 2
        self._threads = [
            threading.Thread(target=self._guarded, args=(target,), name=f"asrloop-{name}", daemon=True)
            for name, target in [
                *((f"work-{number}", working) for number in range(threads)),
                ("watch", self._watch_loop),
            ]
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> None:
        """Take all rows of a request on, or none.

        Raises Overloaded when the inbox has no room for them, InvalidAudio when it never will, InvalidOption for a draft of audio
        that is cut, Cancelled when its key was cancelled before it came, EngineClosed after ``close``. Then ``on_done`` is not
        called.
        """
        try:
            request.divide(self._work.whole_seconds)
            self._open_diarizers(request)
            with self._work.lock:
                if self._closed.is_set():
                    raise EngineClosed(self._why_closed)
                if self._cancelled.has(request.key, self.clock()):
                    raise Cancelled(_CANCELLED)
                self._work.take_on(request)
                self._work.wake()
        except RequestError:
            request.close()
            raise

    def _open_diarizers(self, request: Request) -> None:
        """Raise InvalidOption where speakers are asked for and nothing tells them apart."""
        if request.options.diarize != SPEAKERS:
            return
        if self._diarizer is None:
            raise InvalidOption("diarize is true: this engine does not tell speakers apart; leave it out")
        for recording in request.recordings:
            try:
                recording.diarizer = self._diarizer(request.options.speakers or None)
            except OSError as error:
                raise InvalidOption(f"diarize is true: {error}") from error

    def cancel(self, key: object) -> int:
        """End the requests with this key and return how many there were; rows in a slot leave it before the next step.

        A request that comes later is refused. Empty or non-string keys are ignored.
        """
        if not isinstance(key, str) or not key:
            return 0
        with self._work.lock:
            self._cancelled.add(key, self.clock())
            found = [request for request in self._work.ledger if request.key == key]
            for request in found:
                self._work.fail(request, Cancelled(_CANCELLED))
            self._work.wake()
            return len(found)

    def progress(self, key: object) -> Progress:
        """Return the progress of the request with this key, all its rows together."""
        with self._work.lock:
            for request in self._work.ledger:
                if key and request.key == key:
                    try:
                        return request.progress(self.family)
                    except Exception:  # it concerns that request alone, which is told when it is answered
                        return Progress()
        return Progress()

    def close(self, timeout: float = 10.0) -> None:
        """End every request that is left with EngineClosed, answer them, and end the threads."""
        self._shut("the engine is closed: the model is being unloaded; send the request again")
        cutting = self._work.long.threads.values() if self._work.long else ()
        _join([*self._threads, *cutting], timeout)

    def _shut(self, reason: str) -> None:
        work = self._work
        with work.lock:
            self._why_closed = reason
            self._closed.set()
            for request in work.ledger:
                work.fail(request, EngineClosed(reason))
            work.for_threads.notify_all()

    def _guarded(self, loop: Callable[[], None]) -> None:
        """Run a thread's loop. A bug in it must not leave callers waiting: everyone is told, and newcomers are refused."""
        try:
            loop()
        except Exception as error:
            traceback.print_exc()
            self._shut(f"the engine stopped on a bug of its own ({error!r}): send the request again, and report it")
            _join([one for one in self._threads if one is not threading.current_thread()], LAST_WORDS_SECONDS)
            if self._on_bug is not None:
                self._on_bug()

    def _answer(self, request: Request | Utterance) -> None:
        if isinstance(request, Utterance):
            self._time_words(request)
            return
        for utterance in request.utterances:
            self._observer.finished(utterance.numbers())
        for recording in request.numbers(self.clock()):
            self._observer.answered(recording)
        request.on_done(request)
        request.close()

    def _time_words(self, utterance: Utterance) -> None:
        """Do it for each utterance as it ends: a recording of hours would hold up other answers if all came at its end."""
        try:
            token_spans(utterance, self.family)
        except Exception:  # it concerns that request alone, which is told when it is answered
            return

    def _watch_loop(self) -> None:
        asked_at = self.clock()
        while not self._closed.wait(WATCH_SECONDS):
            with self._work.lock:
                self._work.end_overdue()
                self._work.wake()
            if self.clock() - asked_at >= ASK_SECONDS:
                asked_at = self.clock()
                self._end_those_who_left()

    def _end_those_who_left(self) -> None:
        # Apart from the loop, which would keep the last request while nothing happens.
        with self._work.lock:
            requests = list(self._work.ledger)
        for request in requests:
            if self._has_left(request):
                with self._work.lock:
                    self._work.fail(request, Cancelled(_CANCELLED))
                    self._work.wake()

    def _has_left(self, request: Request) -> bool:
        try:
            return request.is_cancelled is not None and request.is_cancelled()
        except Exception:  # it concerns this caller alone, who may still be there
            request.is_cancelled = None
            return False


def _join(threads: Sequence[threading.Thread], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.1, deadline - time.monotonic()))
