"""What `asrloop transcribe` takes and prints, as `asr-client transcribe` does: lists of key terms, a line of JSON a file."""

import json
from pathlib import Path
from typing import Any

from asrloop.engine.outputs import Transcript
from asrloop.offline import Heard


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


def json_of(heard: Heard) -> str:
    """Return what is heard in a file as a line of JSON, with the names that `asr-client transcribe --json` has."""
    file = {"file": str(heard.path)}
    if heard.transcript is None:
        return json.dumps({**file, "error": type(heard.error).__name__, "message": str(heard.error)})
    return json.dumps({**file, **_fields(heard.transcript)}, ensure_ascii=False)


def _fields(transcript: Transcript) -> dict[str, Any]:
    words = [
        {"text": word.text.strip(), "start": word.times[0], "end": word.times[1], "confidence": word.confidence}
        for word in transcript.words
        if word.times
    ]
    return {
        "text": transcript.text,
        "segments": [segment._asdict() for segment in transcript.segments],
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
