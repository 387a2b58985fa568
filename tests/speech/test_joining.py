"""Two windows that heard the same words say them once."""

import pytest

from asrloop.families.text.words import words_between_spaces
from asrloop.speech.joining import seam


def pieces(text: str) -> list[str]:
    """Two pieces for long words, as vocabularies have them."""
    found = []
    for index, word in enumerate(text.split()):
        space = " " if index else ""
        found += [space + word[:4], word[4:]] if len(word) > 4 else [space + word]
    return found


def joined(before: str, after: str) -> str:
    left, right = pieces(before), pieces(after)
    kept, dropped = seam(words_between_spaces(left), words_between_spaces(right))
    return " ".join(("".join(left[:kept]) + " " + "".join(right[dropped:])).split())


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("he makes me harshly feel, has got", "Feel, has got a little", "he makes me harshly feel, has got a little"),
        ("between these ligatures, the stun.", "Between these ligatures, the stomach", "between these ligatures, the stomach"),
        ("the two men shook hands the", "Men shook hands, and you", "the two men shook hands, and you"),
        ("a word", "Word", "a Word"),
        ("nothing in comm", "else here", "nothing in here"),
        ("", "all of it", "all of it"),
        ("some words", "", "some words"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_what_both_heard_is_said_once(before: str, after: str, expected: str) -> None:
    assert joined(before, after) == expected


def test_words_far_from_the_seam_are_never_taken_for_common_ones() -> None:
    before = "yes " + " ".join(f"w{number}" for number in range(20))
    assert joined(before, "yes v1 v2 v3").startswith("yes w0 w1")


def test_marks_and_case_do_not_matter() -> None:
    assert joined("it was, he said: NO!", "said no; and left") == "it was, he said: no; and left"
