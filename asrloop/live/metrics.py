"""Metrics of live audio. Knows no Triton."""

from collections import deque
from collections.abc import Callable, Iterator

from asrloop.engine.metrics import REQUESTS, Change, MetricSpec, added_up
from asrloop.errors import RequestError
from asrloop.live.events import Event

_SECONDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)

OPEN = MetricSpec("asrloop_streams_open", "gauge", "Streams of live audio that are open")
ENDED = MetricSpec("asrloop_streams_total", "counter", "Streams that ended, by outcome", outcomes=REQUESTS.outcomes)
PARTIALS = MetricSpec("asrloop_partials_total", "counter", "Texts of open segments that were told")
FINALS = MetricSpec("asrloop_finals_total", "counter", "Segments that were finished")
LAG = MetricSpec("asrloop_live_lag_seconds", "histogram", "From the arrival of audio to a text that is of it", _SECONDS)
FIRST = MetricSpec(
    "asrloop_first_text_seconds", "histogram", "From the first sound of a segment to its first text", _SECONDS
)
FINAL = MetricSpec("asrloop_final_seconds", "histogram", "From the last sound of a segment to its final text", _SECONDS)
TURNS = MetricSpec(
    "asrloop_turn_questions_total",
    "counter",
    "Pauses that the turn detector was to judge, by outcome: silence decided where it was busy or failed",
    outcomes=("answered", "busy", "failed"),
)
LIVE_METRICS = (OPEN, ENDED, PARTIALS, FINALS, LAG, FIRST, FINAL, TURNS)


class LiveMetrics:
    """Keeps the changes until somebody publishes them."""

    def __init__(self, streams: Callable[[], int]) -> None:
        self._streams = streams
        self._changes: deque[Change] = deque(maxlen=100_000)

    def told(self, event: Event, now: float, arrived_at: Callable[[float], float], *, first: bool = False) -> None:
        """Note an event; ``arrived_at`` returns when a second of the stream came."""
        add = self._changes.append
        add(Change(FINALS if event.final else PARTIALS, 1))
        add(Change(LAG, now - arrived_at(event.heard)))
        if first:
            add(Change(FIRST, now - arrived_at(event.speech[0])))
        if event.final:
            add(Change(FINAL, now - arrived_at(event.speech[1])))

    def asked(self, outcome: str) -> None:
        """Note what became of a question to the turn detector."""
        self._changes.append(Change(TURNS, 1, outcome))

    def ended(self, error: RequestError | None) -> None:
        """Note the end of a stream."""
        self._changes.append(Change(ENDED, 1, "ok" if error is None else error.outcome))

    def take(self) -> Iterator[Change]:
        """Return the changes since the last call, the gauge's value among them. A counter is added to once."""
        yield Change(OPEN, self._streams())
        yield from added_up([self._changes.popleft() for _ in range(len(self._changes))])
