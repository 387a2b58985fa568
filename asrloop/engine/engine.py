"""The decode loop: continuous batching of utterances over one model family. It starts the threads and knows no Triton.

    submit -> waiting -> [encode thread: resample, encode, then listen for speech] -> encoded
           -> [step thread: admit, step, step ...] -> decoded -> [reply thread]

A recording that is longer than a window has a thread of its own that cuts it: its windows wait with everybody else's utterances.
A watch thread looks for callers that went away and for deadlines.
"""

import queue
import threading
import time
import traceback
from collections.abc import Callable
from itertools import takewhile
from math import inf
from typing import Any, Protocol

from asrloop.audio import Samples, resampled
from asrloop.engine.cutting import Cutting, Queue, Recordings
from asrloop.engine.family import Emission, Family
from asrloop.engine.recording import Answered, Progress, Recording
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.engine.utterance import Ending, Finished, State, Utterance
from asrloop.errors import Cancelled, DeadlineExceeded, DecodeFailed, EngineClosed, Overloaded, RequestError
from asrloop.speech import repetition
from asrloop.speech.windows import Window

# How often deadlines are looked at; rows leave at the step after.
WATCH_SECONDS = 0.02
# How often a caller is asked whether it is still there. Through Triton each question takes about 0.25 ms.
ASK_SECONDS = 0.25
# A cancel may overtake its request, which is still in an earlier step of an ensemble: so long, and so many, are remembered.
CANCEL_MEMORY_SECONDS = 60.0
CANCEL_MEMORY = 1000
# A thread with nothing to do looks again after this time, whether it was woken or not.
IDLE_SECONDS = 1.0

_CANCELLED = "the caller cancelled the request"


class EngineObserver(Protocol):
    """Hears what the engine does. Called on the engine's threads: must be quick and must not raise."""

    def stepped(self, rows: int, seconds: float) -> None:
        """One step of ``rows`` rows was made."""

    def finished(self, utterance: Finished) -> None:
        """An utterance ended, well or not."""

    def answered(self, recording: Answered) -> None:
        """A row of a request is about to be answered, well or not."""


class Engine:
    """Decodes utterances side by side. ``submit`` returns at once; each request's ``on_done`` is called exactly once."""

    def __init__(
        self,
        family: Family[Any],
        scheduler: Scheduler,
        observer: EngineObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_bug: Callable[[], None] | None = None,
        has_speech: Callable[[Samples], bool] | None = None,
        cutting: Cutting | None = None,
    ) -> None:
        """``on_bug`` is called when a thread of the engine ended by an exception, after everybody was answered.

        ``has_speech`` is asked about 16 kHz samples while their first steps are made; those without are answered with no text.
        Without ``cutting`` every row is decoded whole.
        """
        self.scheduler = scheduler
        self.clock = clock
        self._family = family
        self._observer = observer
        self._on_bug = on_bug
        self._cancelled: dict[str, float] = {}
        """Keys that were cancelled lately, and when; oldest first."""
        self._has_speech = has_speech
        self._requests: set[Request] = set()
        """Those that are not answered, nor their answer under way."""
        self._lock = threading.Lock()
        self._work_for_encoder = threading.Condition(self._lock)
        self._work_for_steps = threading.Condition(self._lock)
        self._recordings = cutting and Recordings(
            cutting,
            scheduler.slots,
            self._lock,
            Queue(self._add_window, self._answer_if_finished, self._fail),
            self._guarded,
        )
        self._closed = threading.Event()
        self._why_closed = ""
        self._replies: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._guarded, args=(target,), name=f"asrloop-{name}", daemon=True)
            for name, target in (
                *((f"encode-{number}", self._encode_loop) for number in range(scheduler.encoders)),
                ("step", self._step_loop),
                ("reply", self._reply_loop),
                ("watch", self._watch_loop),
            )
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> None:
        """Take all rows of a request on, or none.

        Raises Overloaded when the inbox has no room for them, InvalidAudio when it never will, Cancelled when its key was
        cancelled before it came, EngineClosed after ``close``; then ``on_done`` is not called.
        """
        try:
            self._submit(request)
        except RequestError:
            request.release()
            raise

    def _submit(self, request: Request) -> None:
        with self._lock:
            if self._closed.is_set():
                raise EngineClosed(self._why_closed)
            now = self.clock()
            if request.key and now - self._cancelled.get(request.key, -inf) < CANCEL_MEMORY_SECONDS:
                raise Cancelled(_CANCELLED)
            request.arrived_at = now
            if self._recordings is not None:
                self._recordings.check(request)
            utterances = request.utterances
            for utterance in utterances:
                utterance.arrived_at = now
            self.scheduler.submit(*utterances, later=len(request.recordings) - len(utterances))
            self._requests.add(request)
            if self._recordings is not None:
                self._recordings.start(request)
            self._work_for_encoder.notify_all()

    def cancel(self, key: object) -> int:
        """End the requests with this key and return how many there were; rows in a slot leave it before the next step.

        One that comes later is refused. What is no key, such as "" or False, ends nothing.
        """
        if not isinstance(key, str) or not key:
            return 0
        with self._lock:
            self._cancelled.pop(key, None)
            self._cancelled[key] = self.clock()
            while len(self._cancelled) > CANCEL_MEMORY:
                del self._cancelled[next(iter(self._cancelled))]
            found = [request for request in self._requests if request.key == key]
            for request in found:
                self._fail(request, Cancelled(_CANCELLED))
            return len(found)

    def progress(self, key: object) -> Progress:
        """How far the request with this key is, all its rows together."""
        with self._lock:
            for request in self._requests:
                if key and request.key == key:
                    try:
                        return request.progress(self._family)
                    except Exception:  # it concerns that request alone, which is told when it is answered
                        return Progress()
        return Progress()

    def close(self, timeout: float = 10.0) -> None:
        """End every request that is left with EngineClosed, answer them, and end the threads."""
        self._shut("the engine is closed: the model is being unloaded; send the request again")
        deadline = time.monotonic() + timeout
        self._replies.put(None)  # behind the last request
        for thread in [*self._threads, *(self._recordings.threads.values() if self._recordings else ())]:
            thread.join(max(0.1, deadline - time.monotonic()))

    def _shut(self, reason: str) -> None:
        with self._lock:
            self._why_closed = reason
            self._closed.set()
            for request in list(self._requests):
                self._fail(request, EngineClosed(reason))
            self._work_for_encoder.notify_all()
            self._work_for_steps.notify_all()

    def _guarded(self, loop: Callable[[], None]) -> None:
        """Run a thread's loop. A bug in it must not leave callers waiting: everyone is told, and newcomers are refused."""
        try:
            loop()
        except Exception as error:
            traceback.print_exc()
            self._shut(f"the engine stopped on a bug of its own ({error!r}): send the request again, and report it")
            self._replies.put(None)
            reply = next(thread for thread in self._threads if thread.name == "asrloop-reply")
            if reply is not threading.current_thread():
                reply.join(IDLE_SECONDS)
            if self._on_bug is not None:
                self._on_bug()

    # The lock is held around every change of the scheduler and never around a call of the family.

    def _add_window(self, recording: Recording, window: Window) -> None:
        utterance = recording.add(window)
        utterance.arrived_at = self.clock()
        self.scheduler.add(utterance)
        self._work_for_encoder.notify_all()

    def _encode_loop(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                utterance = self.scheduler.next_to_encode()
                if utterance is None:
                    self._work_for_encoder.wait(IDLE_SECONDS)
                    continue
                utterance.encode_started_at = self.clock()
                alone = self.scheduler.everyone() == [utterance]
            self._encode(utterance, alone)

    def _encode(self, utterance: Utterance, alone: bool) -> None:
        try:
            samples = resampled(utterance.take_samples(), utterance.sample_rate)
            encoded = self._family.encode(samples, alone=alone)
        except Exception as error:  # whatever the model raises concerns this request alone
            with self._lock:
                self._fail_row(utterance, DecodeFailed(f"{utterance.place}encoding failed: {error}"))
            return
        with self._lock:
            if utterance.is_finished:
                return
            utterance.encoded = encoded
            utterance.encoded_at = self.clock()
            self.scheduler.encode_done(utterance)
            self._work_for_steps.notify()
        if utterance.has_speech is None:
            self._listen(utterance, samples)

    def _listen(self, utterance: Utterance, samples: Samples) -> None:
        """After its encoding, because nearly all audio has speech: waiting for the answer would hold up everybody."""
        try:
            has_speech = self._has_speech is None or self._has_speech(samples)
        except Exception as error:  # whatever the detector raises concerns this request alone
            with self._lock:
                self._fail_row(utterance, DecodeFailed(f"listening for speech failed: {error}"))
            return
        with self._lock:
            if utterance.is_finished:
                return
            utterance.has_speech = has_speech
            if not has_speech:
                utterance.drop_tokens(0)
                utterance.ending = Ending.NO_SPEECH
                self._finish(utterance)
            elif utterance.state is State.DECODED:
                self._finish(utterance)

    def _step_loop(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                admitted = self.scheduler.admit()
                if not self.scheduler.running:
                    self._work_for_steps.wait(IDLE_SECONDS)
                    continue
            for utterance in admitted:
                self._admit(utterance)
            with self._lock:
                running = self.scheduler.next_to_step()
            if not running:
                continue
            started = self.clock()
            emissions = self._step([slot for slot, _ in running])
            ended = self.clock()
            if self._observer is not None:
                self._observer.stepped(len(running), ended - started)
            with self._lock:
                for (_, utterance), emission in zip(running, emissions, strict=True):
                    if utterance.is_finished:  # cancelled during the step
                        continue
                    if utterance.first_step_at is None:
                        utterance.first_step_at = ended
                    self._take(utterance, emission)

    def _admit(self, utterance: Utterance) -> None:
        if utterance.slot is None:
            raise AssertionError("admitted without a slot")
        admitted_at = self.clock()
        try:
            emission = self._family.admit(utterance.slot, utterance.encoded, utterance.draft, utterance.given)
        except Exception as error:  # whatever the model raises concerns this request alone
            with self._lock:
                self._fail_row(utterance, DecodeFailed(f"{utterance.place}admission failed: {error}"))
            return
        finally:
            utterance.encoded = None
        with self._lock:
            if utterance.is_finished:  # cancelled meanwhile
                return
            utterance.admitted_at = admitted_at
            if emission.tokens or emission.done:
                utterance.first_step_at = self.clock()
                agreed = takewhile(lambda pair: pair[0] == pair[1], zip(utterance.draft, emission.tokens, strict=False))
                utterance.draft_accepted = sum(1 for _ in agreed)
                self._take(utterance, emission)

    def _step(self, slots: list[int]) -> list[Emission | DecodeFailed]:
        """Step all rows at once; when that fails, one by one, so that only the row at fault fails."""
        try:
            return list(self._family.step(slots))
        except Exception as error:  # whatever the model raises
            if len(slots) == 1:
                return [DecodeFailed(f"decoding failed: {error}")]
            return [emission for slot in slots for emission in self._step([slot])]

    def _take(self, utterance: Utterance, emission: Emission | DecodeFailed) -> None:
        if isinstance(emission, DecodeFailed):
            self._fail_row(utterance, DecodeFailed(f"{utterance.place}{emission.args[0]}"))
            return
        known = max(len(utterance.tokens), utterance.given)
        utterance.tokens.extend(emission.tokens)
        utterance.times.extend(emission.times)
        utterance.log_probs.extend(emission.log_probs)
        # As if the tokens had come one by one.
        ends = (repetition.kept(utterance.tokens[:end]) for end in range(known + 1, len(utterance.tokens) + 1))
        kept = next((kept for kept in ends if kept is not None), None)
        if kept is not None:
            utterance.ending = Ending.REPETITION
            utterance.drop_tokens(kept)
        elif emission.cut:
            utterance.ending = Ending.LIMIT
        if emission.done or kept is not None:
            if utterance.has_speech is None:
                self.scheduler.decode_done(utterance)
                self._work_for_encoder.notify()
            else:
                self._finish(utterance)

    # All under the lock.

    def _fail_row(self, utterance: Utterance, error: RequestError) -> None:
        """End the request of an utterance, unless that was answered meanwhile."""
        if not utterance.is_finished:
            self._fail(utterance.request, error)

    def _fail(self, request: Request, error: RequestError) -> None:
        """End a request with its first error; rows that are finished already stay so. Later calls do nothing."""
        if request.error is None and not request.is_finished:
            request.error = error
            for utterance in request.utterances:
                if not utterance.is_finished:
                    utterance.error = error
                    self._leave(utterance)
            for recording in request.recordings:
                recording.is_cut = True
            if self._recordings is not None:
                self._recordings.wake()
            self._answer_if_finished(request)

    def _finish(self, utterance: Utterance) -> None:
        """Free what the utterance holds; the last one of a request hands it to the reply thread."""
        self._leave(utterance)
        self._answer_if_finished(utterance.request)

    def _leave(self, utterance: Utterance) -> None:
        self.scheduler.finish(utterance)
        utterance.take_samples()
        utterance.finished_at = self.clock()
        utterance.recording.under_way -= 1
        self._work_for_encoder.notify()
        if self._recordings is not None:
            self._recordings.wake()

    def _answer_if_finished(self, request: Request) -> None:
        if request.is_finished and request in self._requests:
            self._requests.discard(request)
            self._replies.put(request)

    def _reply_loop(self) -> None:
        while True:
            try:
                request = self._replies.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                continue
            if request is None:  # put by close()
                return
            if self._observer is not None:
                for utterance in request.utterances:
                    self._observer.finished(utterance.numbers())
                for recording in request.recordings:
                    self._observer.answered(recording.numbers(self.clock()))
            request.on_done(request)
            request.release()

    def _watch_loop(self) -> None:
        asked_at = self.clock()
        while not self._closed.wait(WATCH_SECONDS):
            with self._lock:
                now = self.clock()
                limit = self.scheduler.queue_timeout
                for utterance in self.scheduler.waited_too_long(now):
                    self._fail(
                        utterance.request,
                        Overloaded(
                            f"{utterance.place}waited {limit:g} s for a slot (engine.queue_timeout_seconds); retry later"
                        ),
                    )
                requests = list(self._requests)
                for request in requests:
                    if request.deadline is not None and now > request.deadline:
                        waited = now - request.arrived_at
                        self._fail(
                            request,
                            DeadlineExceeded(f"the request's timeout passed after {waited:.3f} s; give it more time"),
                        )
            if now - asked_at >= ASK_SECONDS:
                asked_at = now
                for request in requests:
                    if self._has_left(request):
                        with self._lock:
                            self._fail(request, Cancelled(_CANCELLED))

    def _has_left(self, request: Request) -> bool:
        try:
            return request.is_cancelled is not None and request.is_cancelled()
        except Exception:  # it concerns this caller alone, who may still be there
            request.is_cancelled = None
            return False
