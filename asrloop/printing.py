"""What `asrloop transcribe` takes and prints, as `asr-client transcribe` does: lists of key terms, a line of JSON a file."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from asrloop.engine.outputs import Transcript
from asrloop.offline import Heard
from asrloop.spacing import joined


def terms_of(given: str | None) -> str:
    """Return key terms, one a line, from a file of them or a list with commas. Raises ValueError and OSError."""
    if given is None:
        return ""
    path = Path(given)
    is_file = len(given) < 1000 and path.is_file()  # a longer name is an error of its own
    if not is_file and path.suffix == ".txt":
        raise ValueError(f"--key-terms: there is no file {given}")
    parts = path.read_text(encoding="utf-8-sig").splitlines() if is_file else given.split(",")
    if terms := [part.strip() for part in parts if part.strip()]:
        return "\n".join(terms)
    raise ValueError(f"--key-terms: {given!r} has no term; give one a line, or a list with commas")


def text_of(transcript: Transcript) -> Iterator[str]:
    """Yield its text; where speakers are known, what each says until the next one does, as `asr-client` prints it."""
    if all(segment.speaker < 0 for segment in transcript.segments):
        yield transcript.text
        return
    for speaker, segments in groupby(transcript.segments, lambda segment: segment.speaker):
        name = f"Speaker {speaker + 1}" if speaker >= 0 else "Speaker ?"
        said = joined(" ".join(segment.text.split()) for segment in segments)  # a turn is a line
        yield f"{name}: {said}"


def json_of(heard: Heard) -> str:
    """Return what is heard in a file as a line of JSON, with the names that `asr-client transcribe --json` has."""
    file = {"file": str(heard.path)}
    if heard.transcript is None:
        return json.dumps({**file, "error": type(heard.error).__name__, "message": str(heard.error)})
    return json.dumps({**file, **_fields(heard.transcript)}, ensure_ascii=False)


def _fields(transcript: Transcript) -> dict[str, Any]:
    words = [
        {
            "text": word.text.strip(),
            "start": word.times[0],
            "end": word.times[1],
            "confidence": word.confidence,
            "speaker": _speaker(word.speaker),
        }
        for word in transcript.words
        if word.times
    ]
    return {
        "text": transcript.text,
        "segments": [{**one._asdict(), "speaker": _speaker(one.speaker)} for one in transcript.segments],
        "words": words,
        "duration": transcript.duration,
        "language": transcript.language or None,
        "confidence": transcript.confidence,
        "complete": transcript.complete,
        "tokens": list(transcript.tokens),
        "token_times": list(transcript.times),
        "token_pieces": list(transcript.pieces),
        "token_log_probs": list(transcript.log_probs),
    }


def _speaker(number: int) -> int | None:
    return number if number >= 0 else None
