"""Which words of a prompt are taken as key terms. Prompts are free text: none may fail, and prose may do no harm."""

from __future__ import annotations

import pytest
from asrloop_gateway import prompts
from asrloop_gateway.prompts import terms_of
from hypothesis import given, settings
from hypothesis import strategies as st

from asrloop.engine.options import LONGEST_TERM, MOST_TERMS


@pytest.mark.parametrize(
    ("prompt", "terms"),
    [
        ("", ()),
        ("Szczecin", ("Szczecin",)),
        ("Szczecin, Jan  Kowalski; kubectl\netcd.", ("Szczecin", "Jan Kowalski", "kubectl", "etcd")),
        ('Glossary: "Szczecin", Szczecin', ("Glossary", "Szczecin")),
        (
            "The following talk is about GPT-4 on an iPhone in Szczecin with Jan Kowalski and I'm glad.",
            ("GPT-4", "iPhone", "Szczecin", "Jan Kowalski"),
        ),
        ("This is what people say. Then nobody ever says a name at all.", ()),
        ("We went from there to the town of łódź", ("łódź",)),
        (f"{'a' * 65}, b", ("b",)),
        ("\u4eba\u540d\uff1a\u674e\u56db\u3001\u738b\u4e94\u3002", ("\u4eba\u540d", "\u674e\u56db", "\u738b\u4e94")),
        ("\u4eca\u5929\u6211\u4eec\u4e00\u8d77\u53bb\u516c\u56ed\u8dd1\u6b65\u5440\u54df\uff0cGPT", ("GPT",)),
        ("\x00\x07, \ud800x, ..., ,", ("x",)),
    ],
)
def test_names_and_words_are_taken_and_prose_is_not(prompt: str, terms: tuple[str, ...]) -> None:
    assert terms_of(prompt) == terms


def test_the_limits_are_those_of_the_servers() -> None:
    assert (prompts.MOST_TERMS, prompts._LONGEST_TERM) == (MOST_TERMS, LONGEST_TERM)


@settings(max_examples=50)
@given(st.text() | st.lists(st.text(max_size=3), min_size=101, max_size=110).map(",".join))
def test_terms_are_always_such_as_the_servers_take(prompt: str) -> None:
    terms = terms_of(prompt)
    assert len(terms) <= 100
    for term in terms:
        assert 1 <= len(term) <= 64
        assert term.isprintable()
        assert term.encode()
