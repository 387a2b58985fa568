"""All that is under way, and every change of it: utterances move on, end or fail, requests are answered. No thread, no graph.

The engine's threads share one of these. All methods are called under its ``lock``, which is never held while graphs run.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from math import inf

from asrloop.audio import SAMPLE_RATE
from asrloop.engine.attribution import SpeakerTurn
from asrloop.engine.cutting import Cutting, LongRecordings, Queue
from asrloop.engine.family import Emission, Ended
from asrloop.engine.ledger import Ledger
from asrloop.engine.recording import Recording
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.engine.slots import BatchSlots
from asrloop.engine.utterance import Ending, State, Utterance
from asrloop.errors import DeadlineExceeded, DecodeFailed, Overloaded, RequestError
from asrloop.speech import repetition
from asrloop.speech.pauses import Spoken
from asrloop.speech.windows import Window


class Work:
    """Scheduler, ledger and line of long recordings, kept in step with one another."""

    def __init__(
        self,
        scheduler: Scheduler,
        clock: Callable[[], float],
        turn_cost: float,
        cutting: Cutting | None,
        guarded: Callable[[Callable[[], None]], None],
        *,
        detects_language: bool = False,
    ) -> None:
        """``turn_cost`` and ``detects_language`` are the family's; ``guarded`` runs a thread's work."""
        self.scheduler = scheduler
        self.clock = clock
        self.ledger = Ledger()
        self.lock = threading.Lock()
        self.for_threads = threading.Condition(self.lock)
        """Notified when there is something to do that no thread does."""
        self.replies: deque[Request | Utterance] = deque()
        """Requests that are to be answered, and before each its utterances whose words are to be timed."""
        self.is_answering = False
        """True while a thread does the first of them, which it took."""
        self.to_listen: deque[Callable[[], None]] = deque()
        """What is to be found out about audio beside its encoding and steps: whether it is speech, and who speaks."""
        self.whole_seconds = cutting.whole_seconds if cutting else inf
        self.long = cutting and LongRecordings(
            cutting,
            scheduler.slots,
            self.lock,
            Queue(self._add_window, self.ledger.under_way, self.heard, self._cannot_cut),
            guarded,
        )
        self._turn_cost = turn_cost
        self._detects_language = detects_language
        self._held: dict[Recording, deque[tuple[float, Utterance]]] = {}
        """Utterances, with their turns, whose recording has no language yet; each recording here has one that is not held."""

    def take_on(self, request: Request) -> None:
        """Take all rows of a request on, or none. Raises Overloaded or InvalidAudio when the inbox has no room for them."""
        long_rows = sum(recording.long is not None for recording in request.recordings)
        in_line = self.long.waiting if self.long else 0
        self.scheduler.check_room(len(request.recordings), long_rows, in_line, is_live=request.is_live)
        request.arrived_at = now = self.clock()
        self.ledger.open(request)
        for recording in request.recordings:
            if recording.long is None:
                self._queue(request, recording, *recording.utterances)
            elif self.long is not None:
                self.long.add(request, recording, now + self._turn_cost * recording.expected_seconds)
        if self.long is not None:
            self.long.start()

    def part(self, utterance: Utterance, found: Spoken) -> None:
        """Let an utterance that is being encoded be the first of the parts, and the others wait."""
        if utterance.is_finished:
            return
        request, recording = self.ledger.owner(utterance), self.ledger.recording(utterance)
        others = recording.part(utterance, found)
        self.ledger.shorten(utterance, found.parts[0].samples.size / SAMPLE_RATE)
        for other in others:
            self._queue(request, recording, other)

    def listen(self, find_out: Callable[[], None]) -> None:
        """Let some thread find something out about audio."""
        self.to_listen.append(find_out)
        self.scheduler.listening += 1

    def encoded(self, utterance: Utterance, encoded: object) -> None:
        """Let an utterance be admitted, unless it ended meanwhile."""
        if not utterance.is_finished:
            utterance.encoded = encoded
            utterance.encoded_at = self.clock()
        self.scheduler.encode_done(utterance)

    def wake(self, *, to_listen: bool = True) -> None:
        """Wake a thread where there is something to do that no thread does: threads that wake for nothing cost others time.

        Whoever changes something calls it when it will not look for something to do itself before long. Without ``to_listen``
        that is no reason: it would hold up the admission of the same utterance, which needs the interpreter as well.
        """
        if (
            (self.replies and not self.is_answering)
            or (to_listen and self.to_listen)
            or self.scheduler.next_to_be_stepped()
            or self.scheduler.may_encode
        ):
            self.for_threads.notify()

    def gate_answered(self, utterance: Utterance, *, has_speech: bool) -> None:
        """Let an utterance with speech go on, and end one without."""
        if utterance.is_finished:
            return
        utterance.is_speech = has_speech
        if not has_speech:
            utterance.drop_tokens(0)
            utterance.ending = Ending.NO_SPEECH
            self._finish(utterance)
        elif utterance.state is State.GATED:
            self._end_or_again(utterance)

    def decided(self, utterance: Utterance, emission: Emission | DecodeFailed) -> None:
        """Add the tokens that were decided for a running utterance, and end it where they do."""
        if utterance.is_finished:  # cancelled meanwhile
            return
        if utterance.first_step_at is None:
            utterance.first_step_at = self.clock()
        if isinstance(emission, DecodeFailed):
            self.fail_row(utterance, DecodeFailed(f"{utterance.place}{emission.args[0]}"))
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

    def freed(self, batch: BatchSlots, slot: int, found: Ended | DecodeFailed) -> None:
        """Give a slot back, and take in what the family found out at the end of its row."""
        utterance = batch.free(slot)
        if utterance.is_finished:  # it failed or was cancelled
            return
        if isinstance(found, DecodeFailed):
            self.fail_row(utterance, found)
            return
        utterance.language = found.language
        utterance.evidence = found.evidence
        utterance.wanted_again = None if utterance.is_again else found.again
        if utterance.is_speech:
            self._end_or_again(utterance)
        else:
            self.scheduler.gate(utterance)

    def _end_or_again(self, utterance: Utterance) -> None:
        """Finish an utterance with speech, or queue it to be decoded once more, before others: it has waited once."""
        samples, utterance.wanted_again = utterance.wanted_again, None
        if samples is None:
            self._finish(utterance)
            return
        self.scheduler.gated.discard(utterance)
        utterance.start_again(samples)
        utterance.arrived_at = self.clock()
        self.scheduler.add(utterance, self.ledger.owner(utterance).arrived_at)

    def fail_row(self, utterance: Utterance, error: RequestError) -> None:
        """End the request of an utterance, unless that was answered meanwhile."""
        if not utterance.is_finished:
            self.fail(self.ledger.owner(utterance), error)

    def fail(self, request: Request, error: RequestError) -> None:
        """End a request with its first error; rows that are finished already stay so. Later calls do nothing."""
        for utterance in self.ledger.fail(request, error):
            self._end(utterance)
        for recording in request.recordings:
            self._held.pop(recording, None)
        if self.long is not None:
            self.long.leave(request)
        self._answer_if_finished(request)

    def end_overdue(self) -> None:
        """End requests that waited too long for a slot, or whose own time is over."""
        now, limit = self.clock(), self.scheduler.queue_timeout
        waited = f"waited {limit:g} s for a slot (engine.queue_timeout_seconds); retry later"
        for utterance in self.scheduler.waited_too_long(now):
            self.fail_row(utterance, Overloaded(utterance.place + waited))
        for request in self.long.waited_too_long(now, limit) if self.long else ():
            self.fail(request, Overloaded(waited))
        for request in self.ledger:
            if request.deadline is not None and now > request.deadline:
                passed = f"the request's timeout passed after {now - request.arrived_at:.3f} s; give it more time"
                self.fail(request, DeadlineExceeded(passed))

    def _queue(self, request: Request, recording: Recording, utterance: Utterance) -> None:
        """Let an utterance wait. Its turn is the later the more of its request is under way, so that requests take turns,
        however many rows and windows they have."""
        utterance.arrived_at = self.clock()
        under_way = self.ledger.add(request, recording, utterance)
        # A part has waited with the whole of which it was a part.
        since = request.arrived_at if utterance.is_part else utterance.arrived_at
        turn = since + self._turn_cost * under_way
        if self._has_no_language(recording) and self.ledger.under_way(request, recording) > 1:
            utterance.state = State.HELD
            self._held.setdefault(recording, deque()).append((turn, utterance))
            return
        self.scheduler.add(utterance, turn)

    def _has_no_language(self, recording: Recording) -> bool:
        return self._detects_language and not recording.options.language

    def _release(self, recording: Recording) -> None:
        """Let the held utterances of a recording wait, in its language, or, while nobody knows that, the next one alone."""
        held = self._held.pop(recording, None)
        while held:
            turn, utterance = held.popleft()
            utterance.options, utterance.state, utterance.arrived_at = recording.options, State.WAITING, self.clock()
            self.scheduler.add(utterance, turn)
            if held and self._has_no_language(recording):
                self._held[recording] = held
                return

    def _add_window(self, request: Request, recording: Recording, window: Window) -> None:
        self._queue(request, recording, recording.add(window))
        self.wake()

    def heard(self, request: Request, recording: Recording, turns: Sequence[SpeakerTurn] | None = None) -> None:
        """Note that all of a recording was heard; ``turns`` are those of its speakers."""
        recording.diarizer, recording.turns = None, turns
        self.ledger.heard(request, recording)
        self._answer_if_finished(request)
        self.wake()

    def _cannot_cut(self, request: Request, error: RequestError) -> None:
        self.fail(request, error)
        self.wake()

    def _finish(self, utterance: Utterance) -> None:
        request, recording = self.ledger.owner(utterance), self.ledger.recording(utterance)
        if utterance.tokens:
            recording.take_language(utterance.language)
        if utterance.options.word_times:
            self.replies.append(utterance)
        self._end(utterance)
        self._release(recording)
        self._answer_if_finished(request)

    def _end(self, utterance: Utterance) -> None:
        """Let go of what an utterance holds. Its slot, if it has one, is freed by who steps its batch."""
        self.scheduler.finish(utterance)
        self.ledger.close(utterance)
        utterance.take_samples()
        utterance.finished_at = self.clock()
        if self.long is not None:
            self.long.wake()

    def _answer_if_finished(self, request: Request) -> None:
        if self.ledger.settle(request):
            self.replies.append(request)
