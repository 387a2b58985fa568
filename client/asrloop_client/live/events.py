"""Events of live audio: what the reader gets, and how they are read from responses."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from asrloop_client.errors import ServerFailure
from asrloop_client.spacing import joined
from asrloop_client.transcript import Word
from asrloop_client.wire import numbers, outputs_of, strings, words_of


@dataclass(frozen=True)
class StreamEvent:
    """The text of one segment of live audio so far. Times are seconds from the start of the stream."""

    segment: int
    """0, 1, ..."""
    stable: str
    """Text that will not change any more; begins with that of the segment's event before."""
    tail: str
    """Text after `stable` that may still change."""
    final: bool
    """True when the segment is done: `stable` is its text, `tail` is empty."""
    start: float
    """Start of the segment."""
    heard: float
    """End of the audio that the server had heard."""
    words: tuple[Word, ...] = ()
    """Those of a final, where the stream asked for them with `word_times`."""
    pause: bool = False
    """True while the speaker pauses: the text is that of all that was said, and becomes final unless speech goes on. An event that
    says False takes it back."""
    turn: float | None = None
    """How probable it is that the speaker is done, 0..1; None where no pause was judged."""

    @property
    def text(self) -> str:
        """Stable and tail together."""
        return joined((self.stable.strip(), self.tail.strip()))


def read_event(response: Any, address: str) -> tuple[StreamEvent | None, bool]:
    """Return the event in a response to START, and True when the response is the last. Raises ServerFailure."""
    last = "triton_final_response" in response.parameters and response.parameters["triton_final_response"].bool_param
    if not response.outputs:
        return None, last
    outputs = outputs_of(response)
    try:
        (segment,), (start, heard) = numbers("i", outputs["SEGMENT"]), numbers("f", outputs["TIMES"])
        (stable,), (tail,) = strings(outputs["STABLE"]), strings(outputs["TAIL"])
        final = outputs["FINAL"] != b"\0"
        pause = outputs.get("PAUSE", b"\0") != b"\0"
        turn = next((value for value in numbers("f", outputs.get("TURN", b"")) if value >= 0), None)
        return StreamEvent(segment, stable, tail, final, start, heard, words_of(outputs), pause, turn), last
    except (KeyError, ValueError, struct.error) as error:
        raise ServerFailure(
            f"{address}: model {response.model_name} sent an event that cannot be read: {error!r}. Check `stream_model`."
        ) from None
