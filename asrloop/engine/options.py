"""Options of a request: one frozen object, parsed once from the request's parameters and carried unchanged to the family."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Flag, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from asrloop.errors import InvalidOption

if TYPE_CHECKING:
    from asrloop.engine.family import FamilyInfo

TRANSCRIBE, TRANSLATE = "transcribe", "translate"
TASKS = (TRANSCRIBE, TRANSLATE)

_LANGUAGE = re.compile(r"([A-Za-z]{2,3})([-_][A-Za-z0-9]{1,8})*")
"""ISO 639 code with the subtags of BCP 47 (RFC 5646); browsers also write an underscore."""


class Draft(NamedTuple):
    """Tokens of an utterance that are known or likely before it is decoded. Only live audio has a draft."""

    tokens: Sequence[int] = ()
    """Token ids that decoding is likely to give, such as those of nearly the same audio."""

    forced: int = 0
    """Number of leading tokens that are forced: they are not checked."""

    before: int = 0
    """Number of leading tokens that belong to earlier speech and are left out of the answer."""


NO_DRAFT = Draft()


@dataclass(frozen=True)
class Options:
    """Options of a request. All its rows, windows and live decodings carry the same object to ``encode`` and ``admit``."""

    language: str = ""
    """ISO 639 code in lower case; "" lets the model decide."""

    task: str = TRANSCRIBE
    draft: Draft = NO_DRAFT


DEFAULTS = Options()


class Door(Flag):
    """The kind of request that brings parameters."""

    REQUEST = auto()
    """A file or PCM: asr_file, asr_ensemble, decoder_loop."""

    START = auto()
    """The request that starts a stream of live audio."""

    CHUNK = auto()
    """Every other request of a stream."""


_STREAM = Door.START | Door.CHUNK
_EVERYWHERE = Door.REQUEST | _STREAM


class Parameter(NamedTuple):
    """A request parameter that callers may send."""

    doors: Door
    kind: type
    """str, bool, int or float."""

    meaning: str
    served: bool = True
    has_own_check: bool = False
    """True where the code that uses it says more about a wrong value."""

    neutral: Collection[object] = ()
    """Values that ask for nothing: accepted also where the parameter is not served."""

    @property
    def kind_name(self) -> str:
        """Name of the kind as users know it."""
        return {str: "text", bool: "true or false", int: "a whole number", float: "a number"}.get(self.kind, "")


PARAMETERS: Mapping[str, Parameter] = {
    "sample_rate": Parameter(
        _EVERYWHERE, int, "rate of the samples in Hz, 8000..48000; by default 16000", has_own_check=True
    ),
    "cancel_key": Parameter(
        Door.REQUEST, str, "secret of 16 characters or more by which the request can be cancelled", has_own_check=True
    ),
    "cancel": Parameter(Door.REQUEST, str, "end the requests with this key (decoder_loop only)", has_own_check=True),
    "progress": Parameter(
        Door.REQUEST, str, "tell how far the request with this key is (decoder_loop only)", has_own_check=True
    ),
    "language": Parameter(Door.REQUEST | Door.START, str, 'ISO 639-1 or BCP 47; "" or "auto" lets the model decide'),
    "task": Parameter(Door.REQUEST, str, "transcribe or translate"),
    "prompt": Parameter(Door.REQUEST | Door.START, str, "text that came before", served=False, neutral=[""]),
    "key_terms": Parameter(
        Door.REQUEST | Door.START, str, "names and words to expect, one a line", served=False, neutral=[""]
    ),
    "key_terms_boost": Parameter(Door.REQUEST | Door.START, float, "how much they are preferred, 0..10", served=False),
    "word_times": Parameter(
        Door.REQUEST | Door.START, bool, "say when each word was spoken", served=False, neutral=[False]
    ),
    "diarize": Parameter(Door.REQUEST, bool, "say who spoke when", served=False, neutral=[False]),
    "speakers": Parameter(Door.REQUEST, int, "most speakers to find", served=False),
    "turn_detection": Parameter(
        Door.START, str, "silence, semantic or none: what ends a turn", served=False, neutral=["", "silence"]
    ),
    "silence_ms": Parameter(Door.START, int, "length of the pause that ends a segment", served=False),
    "turn_threshold": Parameter(Door.START, float, "probability from which on a pause ends a turn", served=False),
    "model": Parameter(Door.START, str, "the loop that decodes", served=False, neutral=[""]),
    "end_segment": Parameter(Door.CHUNK, bool, "end the open segment now", served=False, neutral=[False]),
}
"""Every parameter by name. One that is not served yet is refused unless its value asks for nothing."""

_TRITONS = {
    "id",
    "timeout",
    "priority",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "binary_data_output",
    "headers",
}
_HEADERS = {
    "accept", "authorization", "b3", "baggage", "connection", "cookie", "date", "expect", "forwarded", "from", "host",
    "origin", "pragma", "referer", "te", "traceparent", "tracestate", "upgrade", "via",
}  # fmt: skip


def is_tritons(name: str) -> bool:
    """Return True for a parameter that Triton reserves, or a header that it forwards (--grpc-header-forward-pattern)."""
    return name in _TRITONS or name.startswith("triton_") or "-" in name or name.lower() in _HEADERS


def parsed(parameters: Mapping[str, Any], door: Door = Door.REQUEST, info: "FamilyInfo | None" = None) -> Options:
    """Return the options that the parameters of a request set. Raises InvalidOption.

    ``info`` says what the served model can do; without it only names and kinds are checked.
    """
    values = {name: _checked(name, value, door) for name, value in parameters.items() if not is_tritons(name)}
    return Options(
        language=_language(values.get("language", ""), info),
        task=_task(values.get("task", TRANSCRIBE), info),
    )


def parameters_of(options: Options) -> dict[str, str]:
    """Return the request parameters that ask for the same, to be sent to another model."""
    given = {"language": options.language, "task": options.task}
    return {name: value for name, value in given.items() if value != getattr(DEFAULTS, name)}


def _checked(name: str, value: object, door: Door) -> Any:
    known = {each for each, parameter in PARAMETERS.items() if door in parameter.doors}
    if name not in known:
        near = get_close_matches(name, known, 1)
        meant = f"do you mean {near[0]}? " if near else ""
        raise InvalidOption(f"{name:.80} is no parameter here: {meant}known are {', '.join(sorted(known))}")
    parameter = PARAMETERS[name]
    if parameter.has_own_check:
        return value
    typed = _typed(value, parameter.kind)
    if typed is None:
        raise InvalidOption(f"{name} is {_shown(value)}: send {parameter.kind_name} ({parameter.meaning})")
    if not parameter.served and typed not in parameter.neutral:
        raise InvalidOption(
            f"{name} is {_shown(value)}: this server does not serve it ({parameter.meaning}); leave it out"
        )
    return typed


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except ValueError:  # an integer of thousands of digits
        return "a number"


def _typed(value: object, kind: type) -> object:
    """Return ``value`` as ``kind``, or None where it is something else. Some clients can only send strings and integers."""
    if kind is bool and isinstance(value, (bool, str, int)):
        return {True: True, False: False, "true": True, "false": False, "1": True, "0": False}.get(
            value.lower() if isinstance(value, str) else value
        )
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**63 else None
    if kind is int and isinstance(value, bool):
        return None
    return value if isinstance(value, kind) else None


def _language(given: str, info: "FamilyInfo | None") -> str:
    if given.lower() in ("", "auto"):
        return ""
    found = _LANGUAGE.fullmatch(given)
    if found is None:
        raise InvalidOption(f"language is {given!r:.80}: send an ISO 639-1 code such as en, or auto")
    language = found[1].lower()
    if info is not None and language not in info.languages:
        raise InvalidOption(
            f"language is {given!r:.80}: the served model has {', '.join(info.languages)}; send one of these, or auto"
        )
    return language


def _task(given: str, info: "FamilyInfo | None") -> str:
    possible = TASKS if info is None else info.tasks
    if given not in possible:
        raise InvalidOption(f"task is {given!r:.80}: the served model can {', '.join(possible)}")
    return given
