"""What a caller asks of the servers, and how it is said in request parameters. The servers check nearly all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asrloop_client.settings import Parameter

from asrloop_gateway.errors import bad_request
from asrloop_gateway.prompts import MOST_TERMS

MOST_LANGUAGES = 32
"""Languages that may be named as possible: the servers are asked about each."""


@dataclass(frozen=True)
class Asked:
    """Wishes of a caller. By default none."""

    model: str = ""
    """Name of a recognizer; "" for the default. It is no parameter: other Triton models take its requests."""
    language: str = ""
    """"" where the model decides."""
    task: str = ""
    """`translate`, or "" to transcribe."""
    prompt: str = ""
    """Text that came before, for servers that take it."""
    word_times: bool = False
    """True for the times of words and what else is known of words and tokens."""
    key_terms: tuple[str, ...] = ()
    key_terms_boost: str = ""
    """A number as text, "" for the servers' own."""
    diarize: str = ""
    """`true` or `channels` to know who spoke."""
    speakers: int | None = None
    turns: tuple[tuple[str, Parameter], ...] = ()
    """What ends the segments of live audio, as request parameters."""

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The request parameters; none for what is not asked for."""
        given: dict[str, Parameter] = {
            "language": self.language,
            "task": self.task,
            "prompt": self.prompt,
            "word_times": self.word_times,
            "key_terms": "\n".join(self.key_terms),
            "key_terms_boost": self.key_terms_boost,
            "diarize": self.diarize,
        }
        most: dict[str, Parameter] = {} if self.speakers is None else {"speakers": self.speakers}
        return {name: value for name, value in given.items() if value} | most | dict(self.turns)


_TURNS = {
    "turn_detection": str,
    "silence_ms": int,
    "turn_threshold": float,
    "longest_pause_ms": int,
    "speech_threshold": float,
    "padding_ms": int,
}
_LARGEST = 2**53
_KINDS = {int: "a whole number", float: "a number"}


def turns_of(fields: Mapping[str, object]) -> tuple[tuple[str, Parameter], ...]:
    """Return what a start message says of turns. The servers check the values. Raises ApiError 400."""
    return tuple(
        (name, _typed(name, fields[name], kind)) for name, kind in _TURNS.items() if fields.get(name) is not None
    )


def _typed(name: str, value: object, kind: type) -> Parameter:
    if kind is str:
        return text_of(name, value)
    is_number = isinstance(value, int | float if kind is float else int) and not isinstance(value, bool)
    if not isinstance(value, int | float) or not is_number or not abs(value) < _LARGEST:
        raise bad_request("invalid_option", f"{name} is {value!a:.50}. Give {_KINDS[kind]}.", name)
    return float(value) if kind is float else int(value)


def refuse_speakers(start: Mapping[str, object]) -> None:
    """Raise ApiError 400 for a start message that asks who speaks."""
    for name in ("diarize", "speakers"):
        if start.get(name) not in (None, False):
            message = f"{name}: live audio does not tell speakers apart. Leave it out, or send the recording as a file."
            raise bad_request("not_supported", message, name)


def text_of(name: str, value: object, kind: str = "text") -> str:
    """Return an option that is text, of this kind. Raises ApiError 400."""
    if not isinstance(value, str) or not _is_unicode(value):
        raise bad_request("invalid_option", f"{name} is {value!a:.50}. Give {kind}.", name)
    return value


def language_of(value: object) -> str:
    """Return a language. Raises ApiError 400."""
    return text_of("language", value, "an ISO 639-1 code, such as en")


def terms_of(name: str, value: object) -> tuple[str, ...]:
    """Return key terms, which are a list. Their number is checked here, before any is looked at. Raises ApiError 400."""
    if not isinstance(value, list):
        raise bad_request("invalid_option", f"{name} is {value!a:.50}. Give a list of words and names.", name)
    if len(value) > MOST_TERMS:
        raise bad_request("invalid_option", f"{name} has {len(value)} terms. Give at most {MOST_TERMS}.", name)
    return tuple(text_of(name, each) for each in value)


def _is_unicode(text: str) -> bool:
    """False for halves of characters, which JSON can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
