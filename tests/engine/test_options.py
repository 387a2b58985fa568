"""Parameters of requests: what is known is parsed once, what is not is refused with what is possible, what is Triton's passes."""

from dataclasses import replace
from typing import Any

import pytest

from asrloop.config import Lengths
from asrloop.engine.family import FamilyInfo
from asrloop.engine.options import (
    CHANNELS,
    DEFAULTS,
    LONGEST_PROMPT,
    MOST_PROMPT_BYTES,
    SPEAKERS,
    Options,
    parameters_of,
    parsed,
)
from asrloop.engine.parameters import PARAMETERS, Door
from asrloop.errors import InvalidOption


def refusal(given: dict[str, Any], door: Door) -> str:
    """The message of the refusal; "" for none."""
    try:
        parsed(given, door)
    except InvalidOption as error:
        return str(error)
    return ""


ENGLISH = FamilyInfo(Lengths(10, 15))
MANY = FamilyInfo(
    Lengths(10, 30), languages=("en", "de", "zh", "no"), tasks=("transcribe", "translate"), takes_prompt=True
)


@pytest.mark.parametrize(
    ("given", "info", "options"),
    [
        ({}, ENGLISH, DEFAULTS),
        ({"language": "en"}, ENGLISH, Options("en")),
        ({"language": "en-US"}, ENGLISH, Options("en")),
        ({"language": "EN_gb"}, ENGLISH, Options("en")),
        ({"language": "auto"}, MANY, DEFAULTS),
        ({"language": ""}, MANY, DEFAULTS),
        ({"word_times": "true"}, ENGLISH, Options(word_times=True)),
        (
            {"key_terms": " Szczecin\nNew York \r\nSzczecin\n", "key_terms_boost": 2},
            replace(ENGLISH, takes_key_terms=True),
            Options(key_terms=("Szczecin", "New York"), key_terms_boost=2.0),
        ),
        (
            {"key_terms": "Zu\u0308rich\nNew   York\nLo\u0301dz\nL\u00f3dz"},
            replace(ENGLISH, takes_key_terms=True),
            Options(key_terms=("Z\u00fcrich", "New York", "L\u00f3dz")),
        ),
        ({"word_times": 1}, ENGLISH, Options(word_times=True)),
        ({"language": "zh-Hant-TW", "task": "translate"}, MANY, Options("zh", "translate")),
        ({"language": "nb-NO"}, MANY, Options("no")),
        (
            {"prompt": "Szczecin,\r\n\t<|endoftext|> \u200d\u00a0"},
            MANY,
            Options(prompt="Szczecin,\r\n\t<|endoftext|> \u200d\u00a0"),
        ),
        ({"prompt": " \n"}, MANY, DEFAULTS),
        ({"prompt": " \n"}, ENGLISH, DEFAULTS),
        (
            {"task": "transcribe", "word_times": False, "diarize": "false", "key_terms": "", "prompt": ""},
            ENGLISH,
            DEFAULTS,
        ),
        ({"sample_rate": 8000, "cancel_key": "k" * 16}, ENGLISH, DEFAULTS),
        ({"diarize": True, "speakers": 3}, ENGLISH, Options(word_times=True, diarize=SPEAKERS, speakers=3)),
        ({"diarize": "True"}, ENGLISH, Options(word_times=True, diarize=SPEAKERS)),
        ({"diarize": "channels"}, ENGLISH, Options(word_times=True, diarize=CHANNELS)),
    ],
)
def test_what_can_be_honoured_is_taken(given: dict[str, Any], info: FamilyInfo, options: Options) -> None:
    assert parsed(given, info=info) == options
    assert parsed(parameters_of(options), info=info) == options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"language": "de"}, "language is 'de': the served model has en; send one of these, or auto"),
        ({"language": "english"}, "language is 'english': send an ISO 639-1 code such as en, or auto"),
        ({"language": 5}, "language is 5: send text"),
        ({"task": "translate"}, "task is 'translate': the served model can transcribe"),
        ({"langauge": "en"}, "langauge is no parameter here: do you mean language"),
        ({"sampel_rate": 8000}, "do you mean sample_rate"),
        ({"xyz": 1}, "xyz is no parameter here: known are cancel, cancel_key, diarize,"),
        ({"word_times": "maybe"}, "word_times is 'maybe': send true or false"),
        ({"diarize": "maybe"}, "diarize is 'maybe': send true, false, or channels"),
        ({"diarize": 2}, "diarize is 2: send true, false, or channels"),
        ({"diarize": True, "speakers": 0}, r"speakers is 0: send a whole number in 1\.\.50"),
        ({"diarize": True, "speakers": -1}, r"speakers is -1: send a whole number in 1\.\.50"),
        ({"diarize": True, "speakers": 1000}, r"speakers is 1000: send a whole number in 1\.\.50"),
        ({"speakers": 2}, "speakers is 2, and diarize is not true: send diarize=true with it"),
        ({"diarize": "channels", "speakers": 2}, "speakers is 2, and diarize is not true"),
        ({"key_terms": "Szczecin"}, "key_terms are not served in this mode of this model"),
        ({"key_terms": "\n".join(map(str, range(101)))}, "key_terms has 101 lines: send at most 100"),
        ({"key_terms": "x" * 65}, "key_terms has a term of 65 characters, 'xxx"),
        ({"key_terms": "one\n\ntwo"}, "key_terms has a term of 0 characters, '': send 1 to 64"),
        ({"key_terms": "a\x00b"}, r"key_terms has 'a\\x00b': send letters, digits and marks"),
        ({"key_terms": "C++\n?"}, r"key_terms has '\?': send names and words, each with a letter or digit"),
        ({"key_terms_boost": 11}, "key_terms_boost is 11.0: send a number in 0..10"),
        ({"key_terms_boost": "much"}, "key_terms_boost is 'much': send a number"),
        ({"speakers": True}, "speakers is True: send a whole number"),
        ({"prompt": "x" * 1000}, "prompt is 'x+: this server does not serve it"),
        ({"turn_detection": "silence"}, "turn_detection is no parameter here"),
        ({"end_segment": True}, "end_segment is no parameter here"),
        ({"word_times": 10**5000}, "word_times is a number: send true or false"),
        ({"word_times": [1]}, r"word_times is \[1\]: send true or false"),
        ({"language": 10**5000}, "language is a number: send text"),
        ({"key_terms_boost": 10**400}, "key_terms_boost is .*: send a number"),
        ({"key_terms_boost": float("nan")}, "key_terms_boost is nan: send a number in 0..10"),
        ({"n" * 100_000: 1}, "^.{0,600}$"),
    ],
)
def test_what_cannot_be_honoured_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=rf"^\[invalid_option\] .*{message.lstrip('^')}"):
        parsed(given, info=ENGLISH)


@pytest.mark.parametrize("name", ["diarize", "speakers"])
@pytest.mark.parametrize("door", [Door.START, Door.CHUNK])
def test_live_audio_says_that_it_does_not_tell_speakers_apart(door: Door, name: str) -> None:
    with pytest.raises(InvalidOption, match=f"{name} is no parameter here: live audio does not tell speakers apart"):
        parsed({name: 1}, door, ENGLISH)


def test_of_a_long_prompt_the_end_stays() -> None:
    kept = parsed({"prompt": "".join(f"word{number} " for number in range(10_000))}, info=MANY).prompt
    assert len(kept) == LONGEST_PROMPT
    assert kept.endswith("word9998 word9999 ")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a\x00b", r"prompt has '\\x00': send text, no control characters but line ends and tabs"),
        ("a\x1b[31m", r"prompt has '\\x1b': send text"),
        ("\ud800", r"prompt has '\\ud800': send text"),
        ("x" * (MOST_PROMPT_BYTES + 1), f"prompt has {MOST_PROMPT_BYTES + 1} bytes: send at most {MOST_PROMPT_BYTES}"),
    ],
)
def test_a_prompt_that_is_no_text_or_has_no_end_is_refused(prompt: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=rf"^\[invalid_option\] {message}"):
        parsed({"prompt": prompt}, info=MANY)


@pytest.mark.parametrize(
    "name",
    ["timeout", "priority", "sequence_id", "sequence_start", "sequence_end", "triton_enable_empty_final_response",
     "binary_data_output", "x-request-id", "traceparent", "Authorization", "user-agent"],
)  # fmt: skip
def test_what_triton_reserves_or_forwards_passes(name: str) -> None:
    for door in Door:
        assert parsed({name: "anything"}, door, ENGLISH) == DEFAULTS


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("door", list(Door))
def test_every_parameter_has_its_doors(name: str, door: Door) -> None:
    said = refusal({name: ""}, door)
    assert ("no parameter here" in said) == (door not in PARAMETERS[name].doors)


def test_without_a_model_at_hand_names_and_kinds_are_checked() -> None:
    assert parsed({"language": "de", "task": "translate"}) == Options("de", "translate")
    with pytest.raises(InvalidOption, match="task is 'sing': the served model can transcribe, translate"):
        parsed({"task": "sing"})
