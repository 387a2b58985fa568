"""Subtitles of a transcript: cues of at most two lines from the times of words, or without them a cue a segment."""

from __future__ import annotations

from asrloop_client.subtitles.cues import Cue, cues
from asrloop_client.transcript import Transcript


def srt(transcript: Transcript, max_line_width: int) -> str:
    """Return SubRip subtitles. Raises InvalidConfig."""
    numbered = enumerate(cues(transcript, max_line_width), 1)
    return "".join(f"{number}\n{_block(cue, ',')}" for number, cue in numbered)


def vtt(transcript: Transcript, max_line_width: int) -> str:
    """Return WebVTT subtitles (W3C). Raises InvalidConfig."""
    escapes = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    escaped = (Cue(cue.start, cue.end, cue.text.translate(escapes)) for cue in cues(transcript, max_line_width))
    return "WEBVTT\n\n" + "".join(_block(cue, ".") for cue in escaped)


def _block(cue: Cue, mark: str) -> str:
    return f"{_clock(cue.start, mark)} --> {_clock(cue.end, mark)}\n{cue.text}\n\n"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(1000 * max(0.0, seconds))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
