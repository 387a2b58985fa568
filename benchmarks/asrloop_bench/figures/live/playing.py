"""Plays recordings to `asr_stream` at the speed of speech, several at a time, keeps the time of each event, and judges them."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from asrloop_client import END_SEGMENT, AsrError, AsyncAsrClient, PoolConfig, StreamEvent

from asrloop.audio import SAMPLE_RATE, Samples

CHUNK = SAMPLE_RATE // 10
STAGGER = 0.137
"""Seconds between the starts of streams, so that their chunks do not come at the same moments."""
LAST_WORDS = 60.0
FIRST_SECONDS = 1.0
"""Seconds of a segment after which its first text is due; shorter segments are left out."""


@dataclass
class Played:
    """Results of one stream. All times are seconds after its first sample was spoken."""

    events: list[tuple[float, StreamEvent]] = field(default_factory=list)
    """Time and event, in order."""
    late: list[float] = field(default_factory=list)
    """Delay of each chunk after it was due."""
    asked: list[float] = field(default_factory=list)
    """Times at which the end of the segment was asked for."""
    ended: float = 0.0
    """Time after the last event."""
    error: str | None = None


def sent_at(position: float) -> float:
    """Return the time at which speech at ``position`` is sent: with its chunk, whose last sample must be spoken first."""
    seconds = CHUNK / SAMPLE_RATE
    return (int(position / seconds - 1e-6) + 1) * seconds


def play(
    address: str, recordings: Sequence[Samples], ends: Sequence[Sequence[float]] | None = None, **options: Any
) -> list[Played]:
    """Play each of the recordings (f32 [N], 16 kHz) as a stream of its own, all at a time, in this process.

    ``ends`` has for each the seconds, in order, behind whose chunk the end of the segment is asked for; ``options`` are those of
    the client's streams.
    """
    return asyncio.run(_play_all(address, recordings, ends or [()] * len(recordings), options))


async def _play_all(
    address: str, recordings: Sequence[Samples], ends: Sequence[Sequence[float]], options: dict[str, Any]
) -> list[Played]:
    pool = PoolConfig(min_channels=len(recordings), max_channels=len(recordings) + 1)
    async with AsyncAsrClient(address, pool=pool, timeout=LAST_WORDS) as client:
        began = time.monotonic() + 0.5
        return await asyncio.gather(
            *(
                _play(client, samples, its_ends, began + number * STAGGER, options)
                for number, (samples, its_ends) in enumerate(zip(recordings, ends, strict=True))
            )
        )


async def _play(
    client: AsyncAsrClient, samples: Samples, ends: Sequence[float], began: float, options: dict[str, Any]
) -> Played:
    played = Played()
    left = deque(ends)

    async def spoken() -> AsyncIterator[Samples]:
        for at in range(0, samples.size, CHUNK):
            due = began + (at + CHUNK) / SAMPLE_RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            played.late.append(time.monotonic() - due)
            yield samples[at : at + CHUNK]
            while left and left[0] <= (at + CHUNK) / SAMPLE_RATE:
                left.popleft()
                played.asked.append(time.monotonic() - began)
                yield END_SEGMENT

    try:
        async with client.stream(spoken(), fail_fast=True, **options) as events:
            async for event in events:
                played.events.append((time.monotonic() - began, event))
    except AsrError as error:  # a figure of its own
        played.error = str(error)
    played.ended = time.monotonic() - began
    return played


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
    asked: Sequence[float] = ()
    """For each end of a segment that was asked for, and given before the next: seconds until its final."""


def judged(played: Played, seconds: float, speech: Sequence[tuple[float, float]]) -> Judged:
    """Judge one stream; ``seconds`` is the length of the recording, ``speech`` the begin and end of speech in each clip."""
    lags = [min(came, seconds) - event.heard for came, event in played.events]
    return Judged(
        first_texts=_first_texts(played),
        finals=_finals(played, speech),
        lag=max([*lags, played.ended - seconds], default=0.0),
        taken_back=_taken_back(played),
        text=" ".join(event.stable.strip() for _, event in played.events if event.final and event.stable.strip()),
        asked=_asked(played),
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
            if event.start < end <= event.heard + CHUNK / SAMPLE_RATE:
                if event.heard < following + FIRST_SECONDS:
                    found.append(came - sent_at(end))
                break
    return found


def _asked(played: Played) -> list[float]:
    finals = [came for came, event in played.events if event.final]
    found = []
    for began, following in pairwise([*played.asked, float("inf")]):
        found += [came - began for came in finals if began <= came < following][:1]
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
