"""What a stream tells: the events of its segments."""

from collections.abc import Sequence
from typing import NamedTuple

from asrloop.live.endings import UNANSWERED


class SaidWord(NamedTuple):
    """A word of a segment that is over."""

    text: str
    start: float
    """As ``end`` in seconds of the stream."""

    end: float
    confidence: float


class Event(NamedTuple):
    """News of a segment."""

    segment: int
    stable: str
    tail: str
    final: bool
    start: float
    """Start of the segment, in seconds of the stream."""

    heard: float
    """End of the audio that the text comes from, in seconds of the stream."""

    speech: tuple[float, float] = (0.0, 0.0)
    """First and last sound of the segment so far, in seconds of the stream."""

    words: Sequence[SaidWord] = ()
    """Of a final, where the times of words are asked for."""

    pause: bool = False
    """True while the speaker pauses: the text is that of all that was said, and becomes final unless speech goes on."""

    turn: float = UNANSWERED
    """How probable it is that the speaker is done, 0..1; UNANSWERED where the turn detector was not asked."""
