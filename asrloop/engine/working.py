"""What a thread of the engine does next. All threads are alike: one that has encoded an utterance that is alone steps it and
answers it as well, because another would have to be woken, on a core whose caches are cold. That took a tenth of a 1 s request."""

from collections.abc import Callable, Sequence
from functools import partial

from asrloop.engine.encoding import Encoding
from asrloop.engine.request import Request
from asrloop.engine.stepping import StepLoop
from asrloop.engine.utterance import Utterance
from asrloop.engine.work import Work

# A thread with nothing to do looks again after this time, whether it was woken or not.
IDLE_SECONDS = 1.0


class Working:
    """Several threads run it. Each takes something to do, and wakes another where that leaves something."""

    def __init__(
        self,
        work: Work,
        encoding: Encoding,
        steps: Sequence[StepLoop],
        answer: Callable[[Request | Utterance], None],
    ) -> None:
        """``steps`` are one a batch. ``answer`` is called for one at a time, in order."""
        self._work = work
        self._encoding = encoding
        self._step = [step.run for step in steps]
        self._answer = answer

    def run(self, is_closed: Callable[[], bool]) -> None:
        """Do what there is to do until ``is_closed`` and nothing is left."""
        work = self._work
        while True:
            with work.lock:
                doing = self._next()
                if doing is None:
                    if is_closed():
                        return
                    work.for_threads.wait(IDLE_SECONDS)
                elif doing not in self._step:
                    work.wake()
                else:
                    work.wake(to_listen=False)
            if doing is not None:
                doing()

    def _next(self) -> Callable[[], None] | None:
        """Take what comes first: who is done does not wait, and a batch is stepped while others are encoded."""
        work = self._work
        if work.replies and not work.is_answering:
            work.is_answering = True
            return partial(self._answer_one, work.replies.popleft())
        if batch := work.scheduler.next_to_be_stepped():
            batch.is_stepped = True
            return self._step[batch.batch]
        if work.to_listen:
            return partial(self._listen, work.to_listen.popleft())
        if utterance := work.scheduler.next_to_encode():
            utterance.encode_started_at = work.clock()
            return partial(self._encoding.encode, utterance, work.scheduler.has_only_one)
        return None

    def _listen(self, find_out: Callable[[], None]) -> None:
        find_out()
        with self._work.lock:
            self._work.scheduler.listening -= 1

    def _answer_one(self, request: Request | Utterance) -> None:
        try:
            self._answer(request)
        finally:
            with self._work.lock:
                self._work.is_answering = False
