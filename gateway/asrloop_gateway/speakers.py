"""Who spoke: what a form asks for, and how speakers are named in JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass

from asrloop_gateway.errors import bad_request
from asrloop_gateway.uploads import NO_REFERENCES, Form

DIARIZED = "diarized_json"
"""OpenAI's format with speakers; it asks for them by itself."""
_TELLS_NOBODY = "json"
WITH_SEGMENTS = (DIARIZED, "verbose_json")
"""Formats of JSON with segments, in their events, too."""
_WAYS = {"": "", "false": "", "0": "", "true": "true", "1": "true", "channels": "channels"}
_WHOLE = re.compile(r"-?[0-9]{1,9}")


@dataclass(frozen=True)
class Wish:
    """What is asked about speakers, as request parameters."""

    diarize: str = ""
    """`true`, by their voices, or `channels`, each of which is a speaker; "" where nobody asks."""
    speakers: int | None = None
    """Most speakers; the servers check it."""


def wish_of(form: Form, format_: str, streams: bool) -> Wish:
    """Return what a form asks about speakers. Raises ApiError 400, also where the response cannot tell them."""
    given = form.text("diarize").lower()
    if given not in _WAYS:
        raise bad_request("invalid_form", f"diarize is {given!r:.50}. Give true, false or channels.", "diarize")
    if form.texts("known_speaker_names"):
        message = f"known_speaker_names[] has names. {NO_REFERENCES} Leave it out."
        raise bad_request("not_supported", message, "known_speaker_names[]")
    way = _WAYS[given]
    if format_ == DIARIZED and not way:
        if given:
            message = f"response_format is {DIARIZED}, and diarize is {given}. Give verbose_json, or leave diarize out."
            raise bad_request("invalid_form", message, "diarize")
        way = "true"
    if way and (format_ == _TELLS_NOBODY or (streams and format_ not in WITH_SEGMENTS)):
        able = " or ".join(WITH_SEGMENTS) if streams else f"{', '.join(WITH_SEGMENTS)}, text, srt or vtt"
        what = "the events of response_format" if streams else "response_format"
        message = f"diarize is {given}, and {what} {format_} cannot tell who spoke. Give {able}, or leave diarize out."
        raise bad_request("invalid_form", message, "diarize")
    return Wish(way, _most(form.text("speakers")))


def _most(given: str) -> int | None:
    if given and not _WHOLE.fullmatch(given):
        raise bad_request("invalid_form", f"speakers is {given!r:.50}. Give a whole number in 1..50.", "speakers")
    return int(given) if given else None


def letter(speaker: int | None) -> str:
    """Return the name of a speaker, who is counted from 0: A, B, ... Z, AA, AB, ...; "" where it is not known."""
    if speaker is None:
        return ""
    return letter(speaker // 26 - 1 if speaker >= 26 else None) + chr(ord("A") + speaker % 26)
