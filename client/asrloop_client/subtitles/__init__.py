"""Subtitles of a transcript, a cue for each segment."""

from __future__ import annotations

from collections.abc import Iterable

from asrloop_client.transcript import Segment


def srt(segments: Iterable[Segment]) -> str:
    """Return SubRip subtitles."""
    return "".join(f"{number}\n{_cue(each, each.text, ',')}" for number, each in enumerate(segments, 1))


def vtt(segments: Iterable[Segment]) -> str:
    """Return WebVTT subtitles (W3C)."""
    escapes = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    return "WEBVTT\n\n" + "".join(_cue(each, each.text.translate(escapes), ".") for each in segments)


def _cue(segment: Segment, text: str, mark: str) -> str:
    one_line = " ".join(text.split())  # an empty line would end the cue
    return f"{_clock(segment.start, mark)} --> {_clock(segment.end, mark)}\n{one_line}\n\n"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(1000 * max(0.0, seconds))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
