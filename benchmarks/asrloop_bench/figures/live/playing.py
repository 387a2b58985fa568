"""Plays recordings to `asr_stream` at the speed of speech, several at a time, and keeps the time of each event."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from asrloop_client import AsrError, AsyncAsrClient, PoolConfig, StreamEvent

from asrloop.audio import SAMPLE_RATE, Samples

CHUNK = SAMPLE_RATE // 10
STAGGER = 0.137
"""Seconds between the starts of streams, so that their chunks do not come at the same moments."""
LAST_WORDS = 60.0


@dataclass
class Played:
    """Results of one stream. All times are seconds after its first sample was spoken."""

    events: list[tuple[float, StreamEvent]] = field(default_factory=list)
    """Time and event, in order."""
    late: list[float] = field(default_factory=list)
    """Delay of each chunk after it was due."""
    ended: float = 0.0
    """Time after the last event."""
    error: str | None = None


def sent_at(position: float) -> float:
    """Return the time at which speech at ``position`` is sent: with its chunk, whose last sample must be spoken first."""
    seconds = CHUNK / SAMPLE_RATE
    return (int(position / seconds - 1e-6) + 1) * seconds


def play(address: str, recordings: Sequence[Samples]) -> list[Played]:
    """Play each of the recordings (f32 [N], 16 kHz) as a stream of its own, all at a time, in this process."""
    return asyncio.run(_play_all(address, recordings))


async def _play_all(address: str, recordings: Sequence[Samples]) -> list[Played]:
    pool = PoolConfig(min_channels=len(recordings), max_channels=len(recordings) + 1)
    async with AsyncAsrClient(address, pool=pool, timeout=LAST_WORDS) as client:
        began = time.monotonic() + 0.5
        return await asyncio.gather(
            *(_play(client, samples, began + number * STAGGER) for number, samples in enumerate(recordings))
        )


async def _play(client: AsyncAsrClient, samples: Samples, began: float) -> Played:
    played = Played()

    async def spoken() -> AsyncIterator[Samples]:
        for at in range(0, samples.size, CHUNK):
            due = began + (at + CHUNK) / SAMPLE_RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            played.late.append(time.monotonic() - due)
            yield samples[at : at + CHUNK]

    try:
        async with client.stream(spoken(), fail_fast=True) as events:
            async for event in events:
                played.events.append((time.monotonic() - began, event))
    except AsrError as error:  # a figure of its own
        played.error = str(error)
    played.ended = time.monotonic() - began
    return played
