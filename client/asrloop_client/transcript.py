"""What a transcription returns, and the forms it can be written in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Where one transcription's time went, in seconds, as the client saw it."""

    total: float
    """From the call to the reply: loading, retries and waits included."""
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
    """When its last token was decided."""


@dataclass(frozen=True)
class Segment:
    """A stretch of speech, in seconds from the start of the audio, and its text."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Progress:
    """How far the server is with a transcription."""

    request_id: str
    done: float
    """Seconds of audio."""
    known: float
    """Of these in all, as far as that is known."""
    text: str
    """What is certain of the transcript: it only grows, unless another server takes over."""


@dataclass(frozen=True)
class StreamEvent:
    """What is known of one segment of live audio now. Times are seconds from the start of the stream."""

    segment: int
    """0, 1, ..."""
    stable: str
    """Its text that will not change any more; each event's begins with that of the segment's event before."""
    tail: str
    """Its text after that, which may still change."""
    final: bool
    """The segment is done: `stable` is its text, `tail` is empty."""
    start: float
    """Where it begins."""
    heard: float
    """How much audio the server had heard."""

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(filter(None, (self.stable.strip(), self.tail.strip())))


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """One transcription's text, and how it came."""

    text: str
    segments: tuple[Segment, ...]
    """In order. Of a server that sends none: one with all the text; none when there is no text."""
    words: tuple[Word, ...]
    """Empty when the model gives no times."""
    duration: float | None
    """Seconds of audio; None for a file whose header the client cannot read (it can with soundfile installed)."""
    confidence: float | None
    """How far to trust the text, 0..1; None when the server does not say."""
    complete: bool
    """False when the server stopped at a limit, so that words may be missing."""
    tokens: tuple[int, ...]
    token_times: tuple[float, ...]
    """Seconds from the start of the audio, one per token; empty when the model gives no times."""
    endpoint: str
    """`host:port` of the server that answered."""
    timings: Timings = Timings(0.0, 0.0, 0.0)
    attempts: int = 1
    request_id: str = ""

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> str:
        """All fields as one line of JSON; times in seconds."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    def to_srt(self) -> str:
        """SubRip subtitles, a cue for each segment."""
        return "".join(
            f"{number}\n{_clock(each.start, ',')} --> {_clock(each.end, ',')}\n{_one_line(each.text)}\n\n"
            for number, each in enumerate(self.segments, 1)
        )

    def to_vtt(self) -> str:
        """WebVTT subtitles (W3C), a cue for each segment."""
        escapes = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
        cues = (
            f"{_clock(each.start, '.')} --> {_clock(each.end, '.')}\n{_one_line(each.text).translate(escapes)}\n\n"
            for each in self.segments
        )
        return "WEBVTT\n\n" + "".join(cues)


def words_of(pieces: Sequence[str], times: Sequence[float]) -> tuple[Word, ...]:
    """Words from tokens: a piece with a leading space starts one. None without times."""
    if not pieces or not times:
        return ()
    starts = [index for index, piece in enumerate(pieces) if index == 0 or piece.startswith(" ")]
    bounds = zip(starts, [*starts[1:], len(pieces)], strict=True)
    return tuple(Word("".join(pieces[first:end]).strip(), times[first], times[end - 1]) for first, end in bounds)


def segments_of(
    texts: Sequence[str], times: Sequence[float], text: str, duration: float | None, words: Sequence[Word]
) -> tuple[Segment, ...]:
    """The server's segments, `times` being start and end of each in turn; without them one from 0 to the end of the audio."""
    if texts and len(times) == 2 * len(texts):
        return tuple(map(Segment, texts, times[::2], times[1::2]))
    if not text:
        return ()
    end = duration if duration is not None else words[-1].end if words else 0.0
    return (Segment(text, 0.0, end),)


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(1000 * max(0.0, seconds))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"


def _one_line(text: str) -> str:
    """An empty line would end the cue."""
    return " ".join(text.split())
