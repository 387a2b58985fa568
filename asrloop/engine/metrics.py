"""The asrloop_* metrics: names, kinds, buckets, and the changes that the engine's events make. Knows no Triton."""

import threading
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, Protocol

from asrloop.engine.request import Answered
from asrloop.engine.utterance import Ending, Finished
from asrloop.errors import ERRORS, RequestError

PUBLISH_SECONDS = 0.25
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0)


class MetricSpec(NamedTuple):
    """One metric family."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    buckets: tuple[float, ...] = ()
    outcomes: tuple[str, ...] = ()
    """Values of the label ``outcome``; empty for a metric without labels."""


REQUESTS = MetricSpec(
    "asrloop_requests_total", "counter", "Recordings answered, by outcome",
    outcomes=("ok", *(error.outcome for error in ERRORS)),
)  # fmt: skip
TOKENS = MetricSpec("asrloop_tokens_total", "counter", "Tokens decoded")
AUDIO = MetricSpec("asrloop_audio_seconds_total", "counter", "Seconds of audio transcribed")
STEPS = MetricSpec("asrloop_steps_total", "counter", "Decoder steps made")
ROWS = MetricSpec("asrloop_rows_per_step", "histogram", "Rows in a decoder step", _ROWS)
SLOTS = MetricSpec("asrloop_slots_in_use", "gauge", "Slots taken by running utterances")
QUEUE = MetricSpec(
    "asrloop_queue_seconds", "histogram", "Arrival to the start of encoding, and from its end to a slot", _SECONDS
)
ENCODE = MetricSpec("asrloop_encode_seconds", "histogram", "Encoding of one utterance", _SECONDS)
RESTARTS = MetricSpec("asrloop_restarts_total", "counter", "How often `asrloop serve` started the server anew")
DECODE = MetricSpec("asrloop_decode_seconds", "histogram", "Admission to the last step of one utterance", _SECONDS)
ANSWER = MetricSpec(
    "asrloop_answer_seconds",
    "histogram",
    "Arrival of a recording to its answer; live audio counts a decoding each",
    _SECONDS,
)
UTTERANCES = MetricSpec(
    "asrloop_utterances_total", "counter", "Utterances decoded: one a recording, or one for each part or window of it"
)
NO_SPEECH = MetricSpec("asrloop_no_speech_total", "counter", "Recordings without speech, which got an empty transcript")
LIMIT = MetricSpec("asrloop_token_limit_total", "counter", "Transcripts that were cut at their token limit")
REPETITION = MetricSpec("asrloop_repetition_total", "counter", "Transcripts that were cut at an endless repetition")
AGAIN = MetricSpec(
    "asrloop_decoded_again_total",
    "counter",
    "Utterances decoded once more, with all care, because their first tokens looked wrong; all others were decoded once",
)
DRAFTED = MetricSpec("asrloop_draft_tokens_total", "counter", "Tokens that were offered as drafts of utterances")
ACCEPTED = MetricSpec(
    "asrloop_draft_tokens_accepted_total", "counter", "Tokens of drafts that needed no step of their own"
)
ENGINE_METRICS = (
    REQUESTS,
    TOKENS,
    AUDIO,
    STEPS,
    ROWS,
    SLOTS,
    QUEUE,
    ENCODE,
    DECODE,
    ANSWER,
    UTTERANCES,
    NO_SPEECH,
    LIMIT,
    REPETITION,
    AGAIN,
    DRAFTED,
    ACCEPTED,
    RESTARTS,
)
_ENDINGS = {Ending.LIMIT: LIMIT, Ending.REPETITION: REPETITION}


class Change(NamedTuple):
    """Add ``value`` to a counter, observe it in a histogram, or set a gauge to it."""

    spec: MetricSpec
    value: float
    outcome: str = ""


class EngineMetrics:
    """An EngineObserver that keeps the changes until somebody publishes them: reporting one is slow, noting one is not."""

    def __init__(self, slots_in_use: Callable[[], int], restarts: int = 0) -> None:
        """``restarts`` of the server so far are published once."""
        self._slots_in_use = slots_in_use
        self._restarts = restarts
        self._steps: deque[int] = deque(maxlen=100_000)
        self._finished: deque[Finished | Answered] = deque(maxlen=100_000)

    def stepped(self, rows: int, seconds: float) -> None:
        """Note a step."""
        self._steps.append(rows)

    def finished(self, utterance: Finished) -> None:
        """Note the end of an utterance."""
        self._finished.append(utterance)

    def answered(self, recording: Answered) -> None:
        """Note the answer to a row."""
        self._finished.append(recording)

    def refused(self, error: RequestError) -> None:
        """Note a request that was refused on arrival."""
        self._finished.append(Answered(error.outcome))

    def take(self) -> Iterator[Change]:
        """Return the changes since the last call and the gauge's value, with one change for each counter."""
        steps = [self._steps.popleft() for _ in range(len(self._steps))]
        finished = [self._finished.popleft() for _ in range(len(self._finished))]
        restarts, self._restarts = self._restarts, 0
        yield Change(SLOTS, self._slots_in_use())
        yield from (Change(ROWS, rows) for rows in steps)
        yield from added_up(
            [Change(RESTARTS, restarts), Change(STEPS, len(steps)), *chain.from_iterable(map(_changes, finished))]
        )


def added_up(changes: Iterable[Change]) -> Iterator[Change]:
    """Return the same changes, but only one for each counter that grew."""
    sums: defaultdict[tuple[MetricSpec, str], float] = defaultdict(float)
    for change in changes:
        if change.spec.kind == "counter":
            sums[change.spec, change.outcome] += change.value
        else:
            yield change
    yield from (Change(spec, value, outcome) for (spec, outcome), value in sums.items() if value)


class Source(Protocol):
    """Gives the changes that a Publisher publishes."""

    def take(self) -> Iterator[Change]:
        """Return the changes since the last call."""


class Publisher:
    """Publishes the changes from a thread of its own: with Triton each is a trip to the server process."""

    def __init__(
        self,
        source: Source,
        open_family: Callable[[MetricSpec], Any],
        specs: Sequence[MetricSpec] = ENGINE_METRICS,
    ) -> None:
        """``specs`` are all that ``source`` has changes of.

        ``open_family`` gives what Triton calls a MetricFamily: its ``Metric(labels, buckets)`` takes the changes.
        """
        self._source = source
        self._metrics: dict[tuple[str, str], Any] = {}
        for spec in specs:
            family = open_family(spec)
            options = {"buckets": list(spec.buckets)} if spec.buckets else {}
            for outcome in spec.outcomes or ("",):
                labels = {"outcome": outcome} if outcome else {}
                self._metrics[spec.name, outcome] = family.Metric(labels=labels, **options)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asrloop-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Publish the rest and end the thread."""
        self._stopped.set()
        self._thread.join(5)
        self._publish()

    def _run(self) -> None:
        while not self._stopped.wait(PUBLISH_SECONDS):
            try:
                self._publish()
            except Exception:  # counting must go on, whatever one metric does
                traceback.print_exc()

    def _publish(self) -> None:
        for change in self._source.take():
            metric = self._metrics[change.spec.name, change.outcome]
            # A model that is loaded again finds its counters as they were, and tells of the same restarts.
            value = change.value - metric.value() if change.spec is RESTARTS else change.value
            {"counter": metric.increment, "gauge": metric.set, "histogram": metric.observe}[change.spec.kind](value)


def _changes(one: Finished | Answered) -> Iterator[Change]:
    if isinstance(one, Answered):
        yield Change(REQUESTS, 1, one.outcome)
        yield Change(AUDIO, one.audio_seconds)
        yield Change(NO_SPEECH, not one.has_speech)
        if one.seconds is not None:
            yield Change(ANSWER, one.seconds)
        return
    yield from (Change(UTTERANCES, 1), Change(TOKENS, one.tokens))
    yield from (Change(DRAFTED, one.draft), Change(ACCEPTED, one.draft_accepted))
    yield Change(AGAIN, one.again)
    if one.ending in _ENDINGS:
        yield Change(_ENDINGS[one.ending], 1)
    for spec, seconds in (
        (QUEUE, one.queue_seconds), (ENCODE, one.encode_seconds), (DECODE, one.decode_seconds),
    ):  # fmt: skip
        if seconds is not None:
            yield Change(spec, seconds)
