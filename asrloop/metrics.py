"""Names, kinds and buckets of the asrloop_* metrics, and what the engine's events add to them. Knows no Triton."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from asrloop.audio import SAMPLE_RATE
from asrloop.utterance import Utterance

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0)


@dataclass(frozen=True)
class MetricSpec:
    """One metric family."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    buckets: tuple[float, ...] = ()
    outcomes: tuple[str, ...] = ()
    """Values of the label ``outcome``; empty for a metric without labels."""


REQUESTS = MetricSpec(
    "asrloop_requests_total", "counter", "Utterances answered, by outcome",
    outcomes=("ok", "overloaded", "cancelled", "deadline", "failed", "closed"),
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
DECODE = MetricSpec("asrloop_decode_seconds", "histogram", "Admission to the last step of one utterance", _SECONDS)
ENGINE_METRICS = (REQUESTS, TOKENS, AUDIO, STEPS, ROWS, SLOTS, QUEUE, ENCODE, DECODE)


class Change(NamedTuple):
    """Add ``value`` to a counter, observe it in a histogram, or set a gauge to it."""

    spec: MetricSpec
    value: float
    outcome: str = ""


class EngineMetrics:
    """An EngineObserver that keeps the changes until somebody publishes them: reporting one is slow, noting one is not."""

    def __init__(self) -> None:
        self._steps: deque[int] = deque(maxlen=100_000)
        self._finished: deque[Utterance] = deque(maxlen=100_000)

    def stepped(self, rows: int, seconds: float) -> None:
        """Note a step."""
        self._steps.append(rows)

    def finished(self, utterance: Utterance) -> None:
        """Note the end of an utterance, or that it was refused on arrival."""
        self._finished.append(utterance)

    def take(self, slots_in_use: int) -> Iterator[Change]:
        """The changes since the last call, the gauge's value among them."""
        steps = [self._steps.popleft() for _ in range(len(self._steps))]
        yield Change(SLOTS, slots_in_use)
        if steps:
            yield Change(STEPS, len(steps))
            yield from (Change(ROWS, rows) for rows in steps)
        for utterance in [self._finished.popleft() for _ in range(len(self._finished))]:
            yield from _of_utterance(utterance)


def _of_utterance(utterance: Utterance) -> Iterator[Change]:
    yield Change(REQUESTS, 1, utterance.outcome)
    if utterance.tokens:
        yield Change(TOKENS, len(utterance.tokens))
    if utterance.error is None:
        yield Change(AUDIO, utterance.samples.size / SAMPLE_RATE)
    if utterance.encode_started_at is None or utterance.encoded_at is None or utterance.admitted_at is None:
        return
    yield Change(
        QUEUE, utterance.encode_started_at - utterance.arrived_at + utterance.admitted_at - utterance.encoded_at
    )
    yield Change(ENCODE, utterance.encoded_at - utterance.encode_started_at)
    if utterance.finished_at is not None:
        yield Change(DECODE, utterance.finished_at - utterance.admitted_at)
