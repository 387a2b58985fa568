"""How speakers are named in text and subtitles, and the turns in which they speak."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from asrloop_client.spacing import joined
from asrloop_client.transcript import Transcript


def name_of(speaker: int | None) -> str:
    """Return the name of a speaker, who is counted from 0: "Speaker 1"; "" for None."""
    return "" if speaker is None else f"Speaker {speaker + 1}"


def turns(transcript: Transcript) -> Iterator[str]:
    """Yield what each speaker says until the next one does, with the name before it; the whole text where no speaker is known."""
    if all(segment.speaker is None for segment in transcript.segments):
        yield transcript.text
        return
    for speaker, segments in groupby(transcript.segments, lambda segment: segment.speaker):
        said = joined(" ".join(segment.text.split()) for segment in segments)
        yield f"{name_of(speaker) or 'Speaker ?'}: {said}"
