"""What a transcription returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Where one transcription's time went, in seconds, as the client saw it."""

    total: float
    """From the call to the reply, retries and waits included."""
    acquire: float
    """Waiting for a channel, in the attempt that succeeded."""
    call: float
    """The gRPC call itself, in the attempt that succeeded."""


@dataclass(frozen=True)
class Word:
    """A word and when it was said, in seconds from the start of the audio."""

    text: str
    start: float
    """When its first token was decided."""
    end: float
    """When the next word starts; for the last word, when its last token was decided."""


def words_of(pieces: Sequence[str] | None, times: Sequence[float] | None) -> tuple[Word, ...] | None:
    """Words from tokens: a piece with a leading space starts one. None without times."""
    if not pieces or not times:
        return None
    starts = [index for index, piece in enumerate(pieces) if index == 0 or piece.startswith(" ")]
    ends = [times[index] for index in starts[1:]] + [times[len(pieces) - 1]]
    bounds = zip(starts, [*starts[1:], len(pieces)], ends, strict=True)
    return tuple(Word("".join(pieces[first:last]).strip(), times[first], end) for first, last, end in bounds)


@dataclass(frozen=True)
class Transcript:
    """One transcription's text, and how it came."""

    text: str
    tokens: tuple[int, ...]
    token_times: tuple[float, ...] | None
    """Seconds from the start of the audio, one per token; None when the server does not send TOKEN_TIMES."""
    words: tuple[Word, ...] | None
    """Words with their times; None when the model gives no times."""
    timings: Timings
    endpoint: str
    """`host:port` of the server that answered."""
    transport: str
    """How the audio went: `grpc` or `shared_memory`."""
    attempts: int
    request_id: str

    def __str__(self) -> str:
        return self.text
