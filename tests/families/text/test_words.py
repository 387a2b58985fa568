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
