"""Words are put together from tokens and their times."""

from asrloop_client.transcript import Word, words_of


def test_words_from_pieces() -> None:
    words = words_of([" can", "cel", " the", " door", "."], [0.1, 0.3, 0.5, 0.9, 1.1])
    assert words == (Word("cancel", 0.1, 0.5), Word("the", 0.5, 0.9), Word("door.", 0.9, 1.1))


def test_a_first_piece_without_a_space_starts_a_word_too() -> None:
    assert words_of(["a"], [0.5]) == (Word("a", 0.5, 0.5),)


def test_no_times_no_words() -> None:
    assert words_of(None, None) is None
    assert words_of([" a"], None) is None
