"""What a caller asks for beside the text goes as request parameters, and as nothing where nothing is asked."""

from typing import Any

import numpy as np
import pytest
from asrloop_client import InvalidConfig
from asrloop_client.asked import asked

from tests.client.stub import Stub


def test_nothing_is_sent_where_nothing_is_asked() -> None:
    assert asked(None) == {}
    assert asked({"language": "en"}, word_times=False, key_terms=(), key_terms_boost=None) == {"language": "en"}


def test_language_task_and_prompt_are_the_servers() -> None:
    assert asked({"language": "en"}, language="de-AT", task="translate", prompt="Szczecin,") == {
        "language": "de-AT",
        "task": "translate",
        "prompt": "Szczecin,",
    }
    assert asked({"language": "en"}, language=None, task=None, prompt="") == {"language": "en"}


def test_the_parameters_are_the_servers() -> None:
    found = asked({"language": "en"}, word_times=True, key_terms=["Szczecin", "C\u0142uj Napoca"], key_terms_boost=2)
    assert found == {
        "language": "en",
        "word_times": True,
        "key_terms": "Szczecin\nC\u0142uj Napoca",
        "key_terms_boost": 2.0,
    }
    assert type(found["key_terms_boost"]) is float
    assert type(asked(None, key_terms_boost=np.float32(1.5))["key_terms_boost"]) is float  # type: ignore[arg-type]
    assert asked(None, word_times=None) == {"word_times": True}
    assert asked({"word_times": True}) == {"word_times": True}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"key_terms": ["one\ntwo"]}, r"key term 'one\\ntwo' .*one line"),
        ({"key_terms": ["one", " "]}, "key term ' ' is empty"),
        ({"key_terms": ["one", 2]}, "key term 2 is a int"),
        ({"key_terms": "Szczecin"}, "key_terms is a single str: give a list"),
        ({"key_terms": 7}, "key_terms is 7: give a list"),
        ({"key_terms_boost": float("nan")}, "key_terms_boost is nan: give a number"),
        ({"key_terms_boost": "much"}, "key_terms_boost is 'much': give a number"),
        ({"key_terms_boost": True}, "key_terms_boost is True: give a number"),
        ({"language": 7}, "language is 7: give a str"),
        ({"prompt": "a\0b"}, "prompt has a NUL, where Triton would cut it off"),
        ({"key_terms": ["a\0b"]}, "has a NUL, where Triton would cut the list off"),
        ({"prompt": ["a"]}, r"prompt is \['a'\]: give a str"),
        ({"word_times": "maybe"}, "word_times is 'maybe': give True, False or None"),
    ],
)
def test_what_no_server_could_take_says_how_to_fix_it(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        asked(None, **wrong)


def test_a_call_that_asks_is_sent_so_and_one_that_asks_wrongly_is_not(connect: Any, make_stub: Any) -> None:
    stub: Stub = make_stub()
    client = connect(stub.address)
    client.transcribe(b"RIFF", word_times=True, key_terms=["Szczecin"], key_terms_boost=1.5)
    assert {"word_times=True", "key_terms=Szczecin", "key_terms_boost=1.5"} <= set(stub.seen())
    with pytest.raises(InvalidConfig, match="one line"):
        client.transcribe(b"RIFF", key_terms=["a\nb"])
    assert stub.seen()["infer"] == 1
    (heard,) = client.transcribe_many([b"RIFF"], word_times=True)
    assert heard.text == "hello there"
    assert stub.seen()["word_times=True"] == 2
    client.transcribe(b"RIFF")
    assert stub.seen()["word_times=True"] == 2


def test_times_that_are_wanted_where_served_are_left_out_where_they_are_not(connect: Any, make_stub: Any) -> None:
    stub: Stub = make_stub()
    client = connect(stub.address)
    refuse = {"refuse": "word_times"}
    assert client.transcribe(b"RIFF", word_times=None, parameters=refuse).text == "hello there"
    assert stub.seen()["infer"] == 2
    with pytest.raises(ValueError, match="is not served"):
        client.transcribe(b"RIFF", word_times=True, parameters=refuse)
    with pytest.raises(ValueError, match="is not served"):
        client.transcribe(b"RIFF", word_times=None, parameters={"refuse": "key_terms"}, key_terms=["a"], timeout=5)
