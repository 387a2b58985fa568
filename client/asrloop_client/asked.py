"""What a caller asks for beside the text, as request parameters. Limits that servers may change are left to them."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping, Sequence

from asrloop_client.errors import require
from asrloop_client.settings import Parameter

CHANNELS = "channels"
_MOST = 2**63
"""Whole numbers travel as signed 64 bits."""


def asked(
    parameters: Mapping[str, Parameter] | None,
    *,
    model: str | None = None,
    language: str | None = None,
    task: str | None = None,
    prompt: str | None = None,
    word_times: bool | None = False,
    diarize: bool | str = False,
    speakers: int | None = None,
    key_terms: Sequence[str] = (),
    key_terms_boost: float | None = None,
    turn_detection: str | None = None,
    silence_ms: int | None = None,
    turn_threshold: float | None = None,
    longest_pause_ms: int | None = None,
    speech_threshold: float | None = None,
    padding_ms: int | None = None,
) -> Mapping[str, Parameter]:
    """Return `parameters` with those that the options of CallOptions and StreamOptions ask for. Raises InvalidConfig."""
    found: dict[str, Parameter] = dict(parameters or {})
    texts = {"model": model, "language": language, "task": task, "prompt": prompt, "turn_detection": turn_detection}
    for name, text in texts.items():
        require(isinstance(text, str | None), f"{name} is {text!r:.80}: give a str")
        require("\0" not in (text or ""), f"{name} has a NUL, where Triton would cut it off: leave it out")
        if text:
            found[name] = text
    require(
        isinstance(word_times, bool | None),
        f"word_times is {word_times!r:.80}: give True, False or None (where served)",
    )
    if word_times is not False:
        found["word_times"] = True
    if diarize is not False:
        is_way = diarize is True or (isinstance(diarize, str) and diarize == CHANNELS)
        require(is_way, f"diarize is {diarize!r:.80}: give True, {CHANNELS!r} or False")
        found["diarize"] = diarize
    if speakers is not None:
        found["speakers"] = _most(speakers, found.get("diarize"))
    if key_terms:
        found["key_terms"] = _lines(key_terms)
    real = {
        "key_terms_boost": key_terms_boost,
        "turn_threshold": turn_threshold,
        "speech_threshold": speech_threshold,
    }
    for name, number in real.items():
        if number is not None:
            is_number = _is(number, numbers.Real) and abs(number) <= sys.float_info.max
            require(is_number, f"{name} is {number!r:.80}: give a number")
            found[name] = float(number)
    whole = {"silence_ms": silence_ms, "longest_pause_ms": longest_pause_ms, "padding_ms": padding_ms}
    for name, number in whole.items():
        if number is not None:
            is_number = _is(number, numbers.Integral) and abs(number) < _MOST
            require(is_number, f"{name} is {number!r:.80}: give a whole number of at most 64 bits")
            found[name] = int(number)
    return found


def _most(speakers: int, diarize: Parameter | None) -> int:
    is_number = _is(speakers, numbers.Integral) and 1 <= speakers < _MOST
    require(is_number, f"speakers is {speakers!r:.80}: give a whole number of 1 or more")
    require(
        diarize not in (None, CHANNELS), f"speakers is {speakers}, and diarize is not True: give both, or leave it out"
    )
    return int(speakers)


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _lines(terms: Sequence[str]) -> str:
    require(not isinstance(terms, str), "key_terms is a single str: give a list, such as ['Szczecin']")
    require(isinstance(terms, Sequence), f"key_terms is {terms!r:.80}: give a list of str")
    for term in terms:
        require(isinstance(term, str), f"key term {term!r:.80} is a {type(term).__name__}: give a list of str")
        require(term.strip() != "", f"key term {term!r:.80} is empty: leave it out")
        require("\0" not in term, f"key term {term!r:.80} has a NUL, where Triton would cut the list off: leave it out")
        require("\n" not in term, f"key term {term!r:.80} has a line break: each is one line; give several terms")
    return "\n".join(terms)
