"""Figures from the events of played streams: when words came, the lag of the server, text taken back. No I/O.

All times are seconds from the first sample of a stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from asrloop_bench.figures.live.playing import Played, sent_at

FIRST_SECONDS = 1.0
"""Seconds of a segment after which its first text is due; shorter segments are left out."""
TOLERANCE = 0.1
"""Seconds by which an event may name less audio than it is about: a chunk."""


@dataclass(frozen=True)
class Judged:
    first_texts: Sequence[float]
    """For each segment of a second or more: seconds from sending its first second to its first text."""
    finals: Sequence[float]
    """For each clip at the end of a segment: seconds from sending its last speech to the final."""
    lag: float
    """The greatest of all events, and of the end: audio sent before it, less the audio that it names as heard."""
    taken_back: int
    """Events whose stable text does not continue the segment's stable text, or that follow its final."""
    text: str
    """The finals, joined."""


def judged(played: Played, seconds: float, speech: Sequence[tuple[float, float]]) -> Judged:
    """Judge one stream; ``seconds`` is the length of the recording, ``speech`` the begin and end of speech in each clip."""
    lags = [min(came, seconds) - event.heard for came, event in played.events]
    return Judged(
        first_texts=_first_texts(played),
        finals=_finals(played, speech),
        lag=max([*lags, played.ended - seconds], default=0.0),
        taken_back=_taken_back(played),
        text=" ".join(event.stable.strip() for _, event in played.events if event.final and event.stable.strip()),
    )


def _first_texts(played: Played) -> list[float]:
    lengths = {event.segment: event.heard - event.start for _, event in played.events if event.final}
    firsts: dict[int, float] = {}
    for came, event in played.events:
        if event.text and lengths.get(event.segment, 0.0) >= FIRST_SECONDS:
            firsts.setdefault(event.segment, came - sent_at(event.start + FIRST_SECONDS))
    return list(firsts.values())


def _finals(played: Played, speech: Sequence[tuple[float, float]]) -> list[float]:
    """Count a clip when its segment is final before more than the beginning of the next one was heard."""
    finals = [(came, event) for came, event in played.events if event.final and event.stable]
    found = []
    for number, (_, end) in enumerate(speech):
        following = speech[number + 1][0] if number + 1 < len(speech) else float("inf")
        for came, event in finals:
            if event.start < end <= event.heard + TOLERANCE:
                if event.heard < following + FIRST_SECONDS:
                    found.append(came - sent_at(end))
                break
    return found


def _taken_back(played: Played) -> int:
    count = 0
    stable: dict[int, str] = {}
    done: set[int] = set()
    for _, event in played.events:
        if event.segment in done or not event.stable.startswith(stable.get(event.segment, "")):
            count += 1
        stable[event.segment] = event.stable
        if event.final:
            done.add(event.segment)
    return count
