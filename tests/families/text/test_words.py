"""Words are spans of tokens: every token with visible text is in one, and joined they are the transcript."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrloop.engine.family import Word
from asrloop.families.text.pieces import spelled
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.families.text.words import words_between_spaces

PIECES = st.lists(st.text(st.sampled_from(" ab'.,é"), max_size=4))
BYTES = st.lists(
    st.sampled_from(["▁caf".encode(), b"\xc3", b"\xa9", b"", b"e", "▁".encode(), b"\xe2", b"\x82", b"\xac"])
)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([], []),
        ([" "], []),
        ([" Hel", "lo", " ", ",", " world", " ."], [Word(0, 4, "Hello,"), Word(4, 6, " world.")]),
        ([" it", "'", "s", " a"], [Word(0, 3, "it's"), Word(3, 4, " a")]),
        ([" one two", " three"], [Word(0, 1, "one"), Word(0, 1, " two"), Word(1, 2, " three")]),
    ],
)
def test_marks_belong_to_the_word_before(pieces: list[str], words: list[Word]) -> None:
    assert words_between_spaces(spelled(pieces)) == words


@given(PIECES)
def test_pieces_joined_are_the_text_without_spaces_before_marks(pieces: list[str]) -> None:
    text = "".join(spelled(pieces)).strip()
    assert text.replace(" ", "") == "".join(pieces).replace(" ", "")
    assert "  " not in text
    assert not {" .", " ,", " '"} & {text[at : at + 2] for at in range(len(text))}


@given(PIECES)
def test_words_joined_are_the_text(pieces: list[str]) -> None:
    said = spelled(pieces)
    words = words_between_spaces(said)
    assert "".join(word.text for word in words) == "".join(said).strip()
    check_spans(words, said)


@given(BYTES)
def test_characters_of_several_tokens(pieces: list[bytes]) -> None:
    vocabulary = Vocabulary(pieces)
    tokens = list(range(len(pieces)))
    said = vocabulary.spelled(tokens)
    assert len(said) == len(pieces)
    assert "".join(said).strip() == vocabulary.text(tokens)
    words = words_between_spaces(said)
    assert "".join(word.text for word in words).split() == vocabulary.text(tokens).split()
    check_spans(words, said)


def check_spans(words: list[Word], said: list[str]) -> None:
    """In order, without a gap, each with the tokens that spell it."""
    assert all(0 <= word.first < word.end <= len(said) for word in words)
    assert all(one.first <= other.first and one.end <= other.end for one, other in itertools.pairwise(words))
    for word in words:
        assert word.text.strip() in "".join(said[word.first : word.end])
    inside = {token for word in words for token in range(word.first, word.end)}
    assert inside >= {token for token, text in enumerate(said) if text.strip()}


UNSPACED = [
    (["今", "天", "好"], ["今", "天", "好"]),
    (["今天", "\uff0c", "天气", "好", "。", "我"], ["今天\uff0c", "天气", "好。", "我"]),
    ([" 今天", "用", "G", "PT", "-4", "写"], ["今天", "用", "GPT-4", "写"]),
    (["他", "说", "「", "好", "」", "。"], ["他", "说", "「好」。"]),
    ([" OpenAI", "と", "コ", "ー", "ヒ", "ー"], ["OpenAI", "と", "コー", "ヒー"]),
    (["ส", "วั", "ส", "ดี", "เ", "มื", "อ", "ง", " ไ", "ทย"], ["ส", "วั", "ส", "ดี", "เมื", "อ", "ง", " ไทย"]),
    (["ខ", "្", "មែ", "រ"], ["ខ្មែ", "រ"]),
    ([" 안녕", "하", "세요", " 여러", "분"], ["안녕하세요", " 여러분"]),
    (["3", ".", "14", "年", "$", "5"], ["3.14", "年", "$5"]),
]


@pytest.mark.parametrize(("pieces", "words"), UNSPACED)
def test_scripts_without_spaces_have_a_word_a_token(pieces: list[str], words: list[str]) -> None:
    found = words_between_spaces(pieces)
    assert [word.text for word in found] == words
    assert "".join(word.text for word in found) == "".join(pieces).strip()
    check_spans(found, pieces)
    assert all(one.end == other.first for one, other in itertools.pairwise(found)), "no token is in two words"


def test_parts_of_a_character_are_never_in_two_words() -> None:
    pieces = [b"\xe4\xbb\x8a", b"\xe5\xa4", b"\xa9", b"\xe5\xa5", b"\xbd", b"\xe5\x95"]
    found = words_between_spaces(Vocabulary(pieces).spelled(range(6)))
    assert found == [Word(0, 1, "今"), Word(1, 3, "天"), Word(3, 5, "好"), Word(5, 6, "\ufffd")]


@given(st.lists(st.text(st.sampled_from(" a'.\uff0c今天เมืองคำ「」ー5\u0301"), max_size=3)))
def test_words_joined_are_the_text_in_every_script(pieces: list[str]) -> None:
    found = words_between_spaces(pieces)
    assert " ".join("".join(word.text for word in found).split()) == " ".join("".join(pieces).split())
    check_spans(found, pieces)
