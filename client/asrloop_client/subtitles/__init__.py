"""Subtitles of a transcript: cues of at most two lines from the times of words, or without them a cue a segment."""

from __future__ import annotations

from asrloop_client.speakers import name_of
from asrloop_client.subtitles.cues import Cue, cues, label
from asrloop_client.transcript import Transcript

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def srt(transcript: Transcript, max_line_width: int) -> str:
    """Return SubRip subtitles. Raises InvalidConfig."""
    numbered = enumerate(cues(transcript, max_line_width), 1)
    return "".join(f"{number}\n{_block(cue, ',', label(cue.speaker) + cue.text)}" for number, cue in numbered)


def vtt(transcript: Transcript, max_line_width: int) -> str:
    """Return WebVTT subtitles (W3C). Raises InvalidConfig."""
    return "WEBVTT\n\n" + "".join(_block(cue, ".", _voiced(cue)) for cue in cues(transcript, max_line_width))


def _voiced(cue: Cue) -> str:
    """Return the text of a cue in the voice of its speaker (WebVTT, 4.2.2: the end tag may be left out)."""
    text = cue.text.translate(_ESCAPES)
    return text if cue.speaker is None else f"<v {name_of(cue.speaker)}>{text}"


def _block(cue: Cue, mark: str, text: str) -> str:
    return f"{_clock(cue.start, mark)} --> {_clock(cue.end, mark)}\n{text}\n\n"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(1000 * max(0.0, seconds))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
