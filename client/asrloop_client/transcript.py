"""The result of a transcription, and its output formats."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

LINE_WIDTH = 42
"""Columns of a line of subtitles, the habit of subtitle tools. Chinese and Japanese characters take two."""


@dataclass(frozen=True)
class Timings:
    """Seconds that one transcription took, as the client saw it."""

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
    end: float
    confidence: float | None = None
    """Confidence in the word, 0..1; None when the server sends none."""
    speaker: int | None = None
    """Who says it, as in its segment."""


@dataclass(frozen=True)
class Segment:
    """A stretch of speech, in seconds from the start of the audio, and its text."""

    text: str
    start: float
    end: float
    speaker: int | None = None
    """0, 1, ... in order of appearance, or the number of the channel; None where nobody asked (`diarize`) or it is unknown."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The text of one transcription, and what is known about it."""

    text: str
    segments: tuple[Segment, ...]
    """Segments in order; a single one with all the text when the server sends none, empty when there is no text."""
    words: tuple[Word, ...]
    """In order of their segments; channels that speak at once overlap; empty when nobody asked for the times of words
    (`word_times`), or the server has none."""
    duration: float | None
    """Seconds of audio that the server decoded. Of servers that do not say it, what the file's header says; None for neither."""
    language: str | None = None
    """ISO 639 code of what is spoken, as it was asked for or as the model found it; None where the server does not say it."""
    confidence: float | None
    """Confidence in the text, 0..1; None when the server sends none."""
    complete: bool
    """False when the server stopped at a limit, or the file is cut short, so that words may be missing."""
    tokens: tuple[int, ...]
    token_times: tuple[float, ...]
    """Seconds from the start of the audio, one per token; empty when the model gives no times."""
    token_pieces: tuple[str, ...] = ()
    """The text that each token adds; empty when the model gives no times."""
    token_log_probs: tuple[float, ...] = ()
    """Natural logarithm of each token's probability; empty when the model gives no times."""
    endpoint: str
    """`host:port` of the server that answered."""
    timings: Timings = Timings(0.0, 0.0, 0.0)
    attempts: int = 1
    request_id: str = ""

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> str:
        """Return all fields as one line of JSON; times in seconds."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    def to_txt(self) -> str:
        """Return the text in a line; where speakers are known, a line for each turn, such as `Speaker 1: So it goes.`"""
        from asrloop_client.speakers import turns

        return "".join(f"{turn}\n" for turn in turns(self))

    def to_srt(self, max_line_width: int = LINE_WIDTH) -> str:
        """Return SubRip subtitles: cues of at most two lines of words, or, without words, a cue a segment. Raises InvalidConfig.

        A cue has the words of one speaker, and begins with `Speaker 1: ` where that is known.
        """
        from asrloop_client.subtitles import srt

        return srt(self, max_line_width)

    def to_vtt(self, max_line_width: int = LINE_WIDTH) -> str:
        """Return WebVTT subtitles (W3C), with the cues of `to_srt`; who speaks is in voice tags, `<v Speaker 1>`."""
        from asrloop_client.subtitles import vtt

        return vtt(self, max_line_width)
