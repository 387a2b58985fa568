"""The decode loop: continuous batching of utterances over one model family. It starts the threads and knows no Triton.

    submit -> waiting -> [encode thread: resample, encode, then ask the speech gate] -> encoded
           -> [step thread: admit, step, step ... finish] -> [gated] -> [reply thread]

A recording that is longer than a window waits in line for a thread of its own that cuts it: its windows wait with everybody else's
utterances. A watch thread looks for deadlines and for callers that left.
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
from asrloop.engine.cancelled_keys import CancelledKeys
from asrloop.engine.cutting import Cutting, LongRecordings, Queue
from asrloop.engine.family import Emission, Ended, Family
from asrloop.engine.ledger import Ledger
from asrloop.engine.recording import Progress, Recording
from asrloop.engine.request import Answered, Request
from asrloop.engine.scheduler import Scheduler
from asrloop.engine.utterance import Ending, Finished, State, Utterance
from asrloop.errors import Cancelled, DeadlineExceeded, DecodeFailed, EngineClosed, Overloaded, RequestError
from asrloop.speech import repetition
from asrloop.speech.windows import Window

# How often deadlines are looked at; rows leave at the step after.
WATCH_SECONDS = 0.02
# How often a caller is asked whether it is still there. Through Triton each question takes about 0.25 ms.
ASK_SECONDS = 0.25
# A thread with nothing to do looks again after this time, whether it was woken or not.
IDLE_SECONDS = 1.0

_CANCELLED = "the caller cancelled the request"


class EngineObserver(Protocol):
    """Hears what the engine does. Called on the engine's threads: must be quick and must not raise."""

    def stepped(self, rows: int, seconds: float) -> None:
        """Note a step of ``rows`` rows."""

    def finished(self, utterance: Finished) -> None:
        """Note the end of an utterance, well or not."""

    def answered(self, recording: Answered) -> None:
        """Note a row of a request that is about to be answered, well or not."""


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
        self.family = family
        self.scheduler = scheduler
        self.clock = clock
        self._observer = observer
        self._on_bug = on_bug
        self._has_speech = has_speech
        self._whole_seconds = cutting.whole_seconds if cutting else inf
        self._cancelled = CancelledKeys()
        self._ledger = Ledger()
        self._lock = threading.Lock()
        self._work_for_encoder = threading.Condition(self._lock)
        self._work_for_steps = threading.Condition(self._lock)
        self._long = cutting and LongRecordings(
            cutting,
            scheduler.slots,
            self._lock,
            Queue(self._add_window, self._ledger.under_way, self._all_cut, self._fail),
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

        Raises Overloaded when the inbox has no room for them, InvalidAudio when it never will, InvalidOption for a draft of audio
        that is cut, Cancelled when its key was cancelled before it came, EngineClosed after ``close``. Then ``on_done`` is not
        called.
        """
        try:
            request.divide(self._whole_seconds)
            self._submit(request)
        except RequestError:
            request.close()
            raise

    def _submit(self, request: Request) -> None:
        with self._lock:
            if self._closed.is_set():
                raise EngineClosed(self._why_closed)
            now = self.clock()
            if self._cancelled.has(request.key, now):
                raise Cancelled(_CANCELLED)
            self.scheduler.check_room(len(request.recordings), self._long.waiting if self._long else 0)
            request.arrived_at = now
            self._ledger.open(request)
            for recording in request.recordings:
                if recording.long is None:
                    self._queue(request, recording, *recording.utterances)
                elif self._long is not None:
                    self._long.add(request, recording, now + self.family.info.turn_cost * recording.expected_seconds)
            if self._long is not None:
                self._long.start()

    def cancel(self, key: object) -> int:
        """End the requests with this key and return how many there were; rows in a slot leave it before the next step.

        A request that comes later is refused. Empty or non-string keys are ignored.
        """
        if not isinstance(key, str) or not key:
            return 0
        with self._lock:
            self._cancelled.add(key, self.clock())
            found = [request for request in self._ledger if request.key == key]
            for request in found:
                self._fail(request, Cancelled(_CANCELLED))
            return len(found)

    def progress(self, key: object) -> Progress:
        """Return how far the request with this key is, all its rows together."""
        with self._lock:
            for request in self._ledger:
                if key and request.key == key:
                    try:
                        return request.progress(self.family)
                    except Exception:  # it concerns that request alone, which is told when it is answered
                        return Progress()
        return Progress()

    def close(self, timeout: float = 10.0) -> None:
        """End every request that is left with EngineClosed, answer them, and end the threads."""
        self._shut("the engine is closed: the model is being unloaded; send the request again")
        deadline = time.monotonic() + timeout
        self._replies.put(None)  # behind the last request
        for thread in [*self._threads, *(self._long.threads.values() if self._long else ())]:
            thread.join(max(0.1, deadline - time.monotonic()))

    def _shut(self, reason: str) -> None:
        with self._lock:
            self._why_closed = reason
            self._closed.set()
            for request in self._ledger:
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

    # The lock is held around every change of the scheduler and of the ledger, and never around a call of the family's graphs.

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
            encoded = self.family.encode(samples, utterance.options, alone=alone)
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
        if not utterance.is_speech:
            self._ask_gate(utterance, samples)

    def _ask_gate(self, utterance: Utterance, samples: Samples) -> None:
        """Ask after the encoding, because nearly all audio has speech: waiting for the answer would hold up everybody."""
        try:
            has_speech = self._has_speech is None or self._has_speech(samples)
        except Exception as error:  # whatever the detector raises concerns this request alone
            with self._lock:
                self._fail_row(utterance, DecodeFailed(f"listening for speech failed: {error}"))
            return
        with self._lock:
            if utterance.is_finished:
                return
            utterance.is_speech = has_speech
            if not has_speech:
                utterance.drop_tokens(0)
                utterance.ending = Ending.NO_SPEECH
                self._finish(utterance)
            elif utterance.state is State.GATED:
                self._finish(utterance)

    def _step_loop(self) -> None:
        while not self._closed.is_set():
            self._free_slots()
            with self._lock:
                admitted = self.scheduler.admit()
                if not self.scheduler.running:
                    if not self.scheduler.ending:
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
                    self._append(utterance, emission)
        self._free_slots()

    def _admit(self, utterance: Utterance) -> None:
        if utterance.slot is None:
            raise AssertionError("admitted without a slot")
        admitted_at = self.clock()
        try:
            emission = self.family.admit(utterance.slot, utterance.encoded, utterance.options)
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
                draft = utterance.options.draft.tokens
                agreed = takewhile(lambda pair: pair[0] == pair[1], zip(draft, emission.tokens, strict=False))
                utterance.draft_accepted = sum(1 for _ in agreed)
                self._append(utterance, emission)

    def _step(self, slots: list[int]) -> list[Emission | DecodeFailed]:
        """Step all rows at once; when that fails, one by one, so that only the row at fault fails."""
        try:
            return list(self.family.step(slots))
        except Exception as error:  # whatever the model raises
            if len(slots) == 1:
                return [DecodeFailed(f"decoding failed: {error}")]
            return [emission for slot in slots for emission in self._step([slot])]

    def _free_slots(self) -> None:
        """Tell the family of the rows that ended, however they did, and give their slots back."""
        with self._lock:
            ending = [(slot, one, () if one.is_finished else one.tokens) for slot, one in self.scheduler.ending.items()]
        for slot, utterance, kept in ending:
            found: Ended | DecodeFailed
            try:
                found = self.family.finish(slot, kept)
            except Exception as error:  # whatever the model raises concerns this request alone
                found = DecodeFailed(f"{utterance.place}the end of decoding failed: {error}")
            with self._lock:
                self._freed(utterance, found)

    # All under the lock.

    def _freed(self, utterance: Utterance, found: Ended | DecodeFailed) -> None:
        """Take in what a family found out at the end of a row, whose slot is free now."""
        if utterance.slot is not None:
            self.scheduler.free(utterance.slot)
        self._work_for_encoder.notify()
        if utterance.is_finished:  # it failed or was cancelled
            return
        if isinstance(found, DecodeFailed):
            self._fail_row(utterance, found)
            return
        utterance.language = found.language
        utterance.times = list(found.times) or utterance.times
        if utterance.is_speech:
            self._finish(utterance)
        else:
            self.scheduler.gate(utterance)

    def _append(self, utterance: Utterance, emission: Emission | DecodeFailed) -> None:
        """Add the tokens that were decided for a running utterance, and end it where they do."""
        if isinstance(emission, DecodeFailed):
            self._fail_row(utterance, DecodeFailed(f"{utterance.place}{emission.args[0]}"))
            return
        known = max(len(utterance.tokens), utterance.options.draft.forced)
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
            self.scheduler.decode_done(utterance)

    def _queue(self, request: Request, recording: Recording, utterance: Utterance) -> None:
        """Let an utterance wait. Its turn is the later the more of its request is under way, so that requests take turns,
        however many rows and windows they have."""
        utterance.arrived_at = self.clock()
        under_way = self._ledger.add(request, recording, utterance)
        self.scheduler.add(utterance, utterance.arrived_at + self.family.info.turn_cost * under_way)
        self._work_for_encoder.notify()

    def _add_window(self, request: Request, recording: Recording, window: Window) -> None:
        self._queue(request, recording, recording.add(window))

    def _all_cut(self, request: Request, recording: Recording) -> None:
        self._ledger.cut(request, recording)
        self._answer_if_finished(request)

    def _fail_row(self, utterance: Utterance, error: RequestError) -> None:
        """End the request of an utterance, unless that was answered meanwhile."""
        if not utterance.is_finished:
            self._fail(self._ledger.owner(utterance), error)

    def _fail(self, request: Request, error: RequestError) -> None:
        """End a request with its first error; rows that are finished already stay so. Later calls do nothing."""
        for utterance in self._ledger.fail(request, error):
            utterance.error = error
            self._end(utterance)
        if self._long is not None:
            self._long.leave(request)
        self._answer_if_finished(request)

    def _finish(self, utterance: Utterance) -> None:
        """Free what the utterance holds; the last one of a request hands it to the reply thread."""
        request = self._ledger.owner(utterance)
        self._end(utterance)
        self._answer_if_finished(request)

    def _end(self, utterance: Utterance) -> None:
        if utterance.state is State.RUNNING:
            self._work_for_steps.notify()  # the step thread frees the slot
        self.scheduler.finish(utterance)
        self._ledger.close(utterance)
        utterance.take_samples()
        utterance.finished_at = self.clock()
        self._work_for_encoder.notify()
        if self._long is not None:
            self._long.wake()

    def _answer_if_finished(self, request: Request) -> None:
        if self._ledger.settle(request):
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
                for recording in request.numbers(self.clock()):
                    self._observer.answered(recording)
            request.on_done(request)
            request.close()

    def _watch_loop(self) -> None:
        asked_at = self.clock()
        while not self._closed.wait(WATCH_SECONDS):
            with self._lock:
                now = self.clock()
                self._end_overdue(now)
                requests = list(self._ledger)
            if now - asked_at >= ASK_SECONDS:
                asked_at = now
                for request in requests:
                    if self._has_left(request):
                        with self._lock:
                            self._fail(request, Cancelled(_CANCELLED))

    def _end_overdue(self, now: float) -> None:
        limit = self.scheduler.queue_timeout
        waited = f"waited {limit:g} s for a slot (engine.queue_timeout_seconds); retry later"
        for utterance in self.scheduler.waited_too_long(now):
            self._fail_row(utterance, Overloaded(utterance.place + waited))
        for request in self._long.waited_too_long(now, limit) if self._long else ():
            self._fail(request, Overloaded(waited))
        for request in self._ledger:
            if request.deadline is not None and now > request.deadline:
                passed = f"the request's timeout passed after {now - request.arrived_at:.3f} s; give it more time"
                self._fail(request, DeadlineExceeded(passed))

    def _has_left(self, request: Request) -> bool:
        try:
            return request.is_cancelled is not None and request.is_cancelled()
        except Exception:  # it concerns this caller alone, who may still be there
            request.is_cancelled = None
            return False
