"""Options of a request: one frozen object, parsed once from the request's parameters and carried unchanged to the family."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import normalize

from asrloop.engine.parameters import PARAMETERS, Door, is_tritons
from asrloop.engine.turns import TURNS, Turns, turns_of
from asrloop.errors import InvalidOption

if TYPE_CHECKING:
    from asrloop.engine.family import FamilyInfo

TRANSCRIBE, TRANSLATE = "transcribe", "translate"
TASKS = (TRANSCRIBE, TRANSLATE)

SPEAKERS, CHANNELS = "speakers", "channels"
"""Ways to tell speakers apart: by their voices, or by the channels of a file."""

MOST_SPEAKERS = 50
_OF_RECORDINGS = ("diarize", "speakers")

MOST_TERMS, LONGEST_TERM = 100, 64
BOOST, MOST_BOOST = 3.0, 10.0
"""Nats. With 3, errors in rare words fell by two fifths, and no other word changed for the worse; see docs/words.md."""

MOST_PROMPT_BYTES, LONGEST_PROMPT = 1 << 20, 8192
"""More bytes of a prompt are refused. Of fewer the last so many characters stay, which are more than a model looks at."""

_ALSO_CALLED = {"nb": "no", "jv": "jw", "iw": "he", "in": "id", "fil": "tl", "cmn": "zh"}
"""Codes that browsers send, and what models call those languages."""

_LANGUAGE = re.compile(r"([A-Za-z]{2,3})([-_][A-Za-z0-9]{1,8})*")
"""ISO 639 code with the subtags of BCP 47 (RFC 5646); browsers also write an underscore."""

_SPACES = re.compile(" +")


class Draft(NamedTuple):
    """Tokens of an utterance that are known or likely before it is decoded. Only live audio has a draft."""

    tokens: Sequence[int] = ()
    """Token ids that decoding is likely to give, such as those of nearly the same audio."""

    forced: int = 0
    """Number of leading tokens that are forced: they are not checked."""

    before: int = 0
    """Number of leading tokens that belong to earlier speech and are left out of the answer."""

    before_samples: int = 0
    """Number of leading samples, 16 kHz, in which that was said."""


NO_DRAFT = Draft()


@dataclass(frozen=True)
class Options:
    """Options of a request. All its rows, windows and live decodings carry the same object to ``encode`` and ``admit``."""

    language: str = ""
    """ISO 639 code in lower case; "" lets the model decide."""

    task: str = TRANSCRIBE
    word_times: bool = False
    """True where somebody wants to know when each word was spoken, or by whom."""

    diarize: str = ""
    """SPEAKERS or CHANNELS where somebody wants to know who spoke; else ""."""

    speakers: int = 0
    """Most speakers that there are; 0 leaves it to the voices."""

    key_terms: tuple[str, ...] = ()
    """Names and words that the caller expects."""

    key_terms_boost: float = BOOST
    """How much less probable than what the model would say a term may be, in nats."""

    recognizer: str = ""
    """Name of the one that decodes live audio; "" for the default."""

    turns: Turns = TURNS
    """What ends the segments of live audio."""

    draft: Draft = NO_DRAFT
    prompt: str = ""
    """Text that came before."""


DEFAULTS = Options()


def parsed(parameters: Mapping[str, Any], door: Door = Door.REQUEST, info: "FamilyInfo | None" = None) -> Options:
    """Return the options that the parameters of a request set. Raises InvalidOption.

    ``info`` says what the served model can do; without it only names and kinds are checked.
    """
    if not parameters:  # most requests: to find out that they ask for nothing took 1 % of a 1 s request
        return DEFAULTS
    values = {name: _checked(name, value, door) for name, value in parameters.items() if not is_tritons(name)}
    diarize = _diarize(values.get("diarize", False))
    return Options(
        language=_language(values.get("language", ""), info),
        task=_task(values.get("task", TRANSCRIBE), info),
        prompt=_prompt(values.get("prompt", ""), info),
        word_times=values.get("word_times", False) or bool(diarize),
        diarize=diarize,
        speakers=_speakers(values.get("speakers", 0), diarize) if "speakers" in values else 0,
        key_terms=_key_terms(values.get("key_terms", ""), info),
        key_terms_boost=_boost(values.get("key_terms_boost", BOOST)),
        recognizer=values.get("model", ""),
        turns=turns_of(values),
    )


def parameters_of(options: Options) -> dict[str, str | bool | int]:
    """Return the request parameters that ask for the same, to be sent to another model."""
    given: dict[str, str | bool | int] = {
        "language": options.language,
        "task": options.task,
        "prompt": options.prompt,
        "word_times": options.word_times,
        "diarize": "true" if options.diarize == SPEAKERS else options.diarize,
        "speakers": options.speakers,
        "key_terms": "\n".join(options.key_terms),
        "key_terms_boost": str(options.key_terms_boost),  # from model to model no fraction can be sent
    }
    none = {**vars(DEFAULTS), "key_terms": "", "key_terms_boost": str(BOOST)}
    return {name: value for name, value in given.items() if value != none[name]}


def _checked(name: str, value: object, door: Door) -> Any:
    known = {each for each, parameter in PARAMETERS.items() if door in parameter.doors}
    if name not in known and name in _OF_RECORDINGS:
        raise InvalidOption(
            f"{name} is no parameter here: live audio does not tell speakers apart; leave it out, and send the recording to "
            f"asr_file or asr_ensemble with {name} when it is over"
        )
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
    if kind is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
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
    if info is None or language in info.languages:
        return language
    language = _ALSO_CALLED.get(language, "")
    if language not in info.languages:
        raise InvalidOption(
            f"language is {given!r:.80}: the served model has {', '.join(info.languages)}; send one of these, or auto"
            + (f" (family {info.family})" if info.family else "")
        )
    return language


def _task(given: str, info: "FamilyInfo | None") -> str:
    possible = TASKS if info is None else info.tasks
    if given not in possible:
        raise InvalidOption(f"task is {given!r:.80}: the served model can {', '.join(possible)}")
    return given


def _diarize(given: object) -> str:
    """Return "", SPEAKERS or CHANNELS."""
    if isinstance(given, str) and given.lower() == CHANNELS:
        return CHANNELS
    typed = _typed(given, bool)
    if typed is None:
        raise InvalidOption(
            f"diarize is {_shown(given)}: send true, false, or channels ({PARAMETERS['diarize'].meaning})"
        )
    return SPEAKERS if typed else ""


def _speakers(given: int, diarize: str) -> int:
    if not 1 <= given <= MOST_SPEAKERS:
        raise InvalidOption(
            f"speakers is {_shown(given)}: send a whole number in 1..{MOST_SPEAKERS}, or leave it out where it is not known"
        )
    if diarize != SPEAKERS:
        raise InvalidOption(f"speakers is {given}, and diarize is not true: send diarize=true with it, or leave it out")
    return given


def _prompt(given: str, info: "FamilyInfo | None") -> str:
    """Return the end of a prompt: a model that reads no more of it is told what came last."""
    if not given.strip():
        return ""
    if info is not None and not info.takes_prompt:
        raise InvalidOption(
            f"prompt is {given!r:.80}: this server does not serve it (its model takes no text that came before); leave it out"
        )
    size = len(given.encode("utf-8", "replace"))
    if size > MOST_PROMPT_BYTES:
        raise InvalidOption(
            f"prompt has {size} bytes: send at most {MOST_PROMPT_BYTES}; its end is enough, models read about a page"
        )
    wrong = next((one for one in given if unicodedata.category(one) in ("Cc", "Cs") and one not in "\n\r\t"), None)
    if wrong is not None:
        raise InvalidOption(f"prompt has {wrong!a}: send text, no control characters but line ends and tabs")
    return given[-LONGEST_PROMPT:]


def _key_terms(given: str, info: "FamilyInfo | None") -> tuple[str, ...]:
    """Return the terms, which stand one a line, composed as models write them (NFC), without doubles."""
    lines = given.strip().split("\n") if given.strip() else []
    terms = [_SPACES.sub(" ", line.strip(" \t\r")) for line in lines]
    if len(terms) > MOST_TERMS:
        raise InvalidOption(f"key_terms has {len(terms)} lines: send at most {MOST_TERMS}, one term each")
    for term in terms:
        if not 1 <= len(term) <= LONGEST_TERM:
            raise InvalidOption(
                f"key_terms has a term of {len(term)} characters, {term!r:.80}: send 1 to {LONGEST_TERM}"
            )
        if not term.isprintable():
            raise InvalidOption(f"key_terms has {term!r:.80}: send letters, digits and marks, no control characters")
        if not any(map(str.isalnum, term)):  # a mark would stand behind every other word
            raise InvalidOption(f"key_terms has {term!r:.80}: send names and words, each with a letter or digit")
    if terms and info is not None and not info.takes_key_terms:
        raise InvalidOption("key_terms are not served in this mode of this model: leave them out")
    return tuple(dict.fromkeys(normalize("NFC", term) for term in terms))  # of long texts it would take minutes


def _boost(given: float) -> float:
    if not 0 <= given <= MOST_BOOST:
        raise InvalidOption(f"key_terms_boost is {given!r:.80}: send a number in 0..{MOST_BOOST:g}")
    return given
