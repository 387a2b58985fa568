"""Texts are joined with a space where their script has spaces, and without where it has none."""

import pytest
from asrloop_client import StreamEvent, spacing
from hypothesis import given
from hypothesis import strategies as st

from asrloop.spacing import is_unspaced, joined


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        ([], ""),
        (["", "one", "", "two."], "one two."),
        (["今天很好。", "明天見。"], "今天很好。明天見。"),
        (["これは", "テスト", "です"], "これはテストです"),
        (["今天.", "明天"], "今天.明天"),
        (["今天", "Hello", "world"], "今天 Hello world"),
        (["We said 今天.", "Then we left"], "We said 今天. Then we left"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["안녕하세요", "여러분"], "안녕하세요 여러분"),
        (["...", "今天"], "... 今天"),
        (["𠮷", "野家"], "𠮷野家"),
    ],
)
def test_spaces_stand_where_people_write_them(texts: list[str], whole: str) -> None:
    assert joined(texts) == whole


@given(st.lists(st.text(st.sampled_from(" ab.今天。ก"), max_size=4)))
def test_what_is_joined_so_far_stays(texts: list[str]) -> None:
    assert joined(texts).startswith(joined(texts[:-1]))


@pytest.mark.parametrize("character", ["", "a", "é", "한", "\u0431", " ", "\u3000", ".", "\ufffd"])
def test_other_scripts_have_spaces(character: str) -> None:
    assert not is_unspaced(character)


@given(st.lists(st.text(max_size=4)))
def test_the_client_joins_as_the_server_does(texts: list[str]) -> None:
    assert spacing.joined(texts) == joined(texts)


def test_live_text_of_a_client_has_no_space_where_its_script_has_none() -> None:
    assert StreamEvent(0, "\u4eca\u5929", "\u5f88\u597d", False, 0.0, 1.0).text == "\u4eca\u5929\u5f88\u597d"
    assert StreamEvent(0, "it", "is", False, 0.0, 1.0).text == "it is"
