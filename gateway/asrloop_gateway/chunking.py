"""OpenAI's `chunking_strategy`: which pauses end a segment of the response. The servers alone cut the audio for the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from asrloop_client import Segment, Transcript, Word
from asrloop_client.spacing import joined
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asrloop_gateway.errors import ApiError, bad_request
from asrloop_gateway.uploads import Form

FIELD = "chunking_strategy"
_MOST_MS = 60_000
_Milliseconds = Annotated[int, Field(ge=0, le=_MOST_MS)]
_ASKED_FOR = (
    'Give auto, or an object such as {"type": "server_vad", "silence_duration_ms": 500}, which may have threshold (0..1), '
    f"prefix_padding_ms and silence_duration_ms (0..{_MOST_MS})."
)


class ServerVad(BaseModel):
    """The object that OpenAI's API defines. Numbers may come as text: fields of a form have no types."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["server_vad"]
    threshold: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    prefix_padding_ms: _Milliseconds | None = None
    silence_duration_ms: _Milliseconds | None = None


def pause_of(form: Form) -> float | None:
    """Return the shortest pause, in seconds, that ends a segment; None where the servers' own rule holds. Raises ApiError 400.

    The strategy comes as text, as JSON, or, from OpenAI's packages, as a field for each member: `chunking_strategy[type]`.
    """
    text, members = form.text(FIELD), form.members(FIELD)
    if text and members:
        raise bad_request(
            "invalid_form", f"{FIELD} was sent as one field and as {FIELD}[...]. Send one of them.", FIELD
        )
    given = members or _read(text)
    if given in (None, "", "auto"):
        return None
    if not isinstance(given, dict):
        raise _refused(text)
    try:
        silence = ServerVad.model_validate(given).silence_duration_ms
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise _refused(given.get(name, "missing"), f"{FIELD}[{name[:50]}]") from None
    return None if silence is None else silence / 1000


def _read(text: str) -> object:
    """Return what JSON in `text` stands for, or, where it is none, the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _refused(value: object, name: str = FIELD) -> ApiError:
    return bad_request("invalid_form", f"{name} is {value!a:.50}. {_ASKED_FOR}", name)


def cut_at_pauses(transcript: Transcript, seconds: float) -> Transcript:
    """Return it with a segment for the words of one speaker between two pauses of at least `seconds`, in place of the servers' own.

    Where the words do not make up the text it stays as it is: nothing that was said is left out.
    """
    if letters(word.text for word in transcript.words) != letters([transcript.text]):
        return transcript
    segments = [
        Segment(joined(word.text for word in words), words[0].start, words[-1].end, words[0].speaker)
        for words in _between_pauses(transcript.words, seconds)
    ]
    return replace(transcript, segments=tuple(segments))


def _between_pauses(words: Sequence[Word], seconds: float) -> Iterator[Sequence[Word]]:
    begin = 0
    for at, word in enumerate(words):
        before = words[at - 1]
        if at > begin and (word.start - before.end >= seconds or word.speaker != before.speaker):
            yield words[begin:at]
            begin = at
    if words:
        yield words[begin:]


def letters(texts: Iterable[str]) -> str:
    """Return texts as one, without spaces."""
    return "".join("".join(texts).split())
