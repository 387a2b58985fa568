"""Text to the tokens of byte-level BPE, by the vocabulary alone."""

import time

import pytest

from asrloop.families.text.byte_level import ByteLevelEncoder, piece_bytes

PIECES = [*(bytes([byte]) for byte in range(256)), b" t", b"he", b" the", b"in", b"er", b" a", b"", b"an", b" an"]
"""The bytes, then pieces in the order in which they were learnt; one token steers."""


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        (" the", [b" the"]),
        (" then", [b" the", b"n"]),
        (" an", [b" a", b"n"]),  # " a" was learnt before "an"
        ("the", [b"t", b"he"]),
        (" t he", [b" t", b" ", b"he"]),
        ("he's", [b"he", b"'", b"s"]),
        ("é", [b"\xc3", b"\xa9"]),
        (" the  the", [b" the", b" ", b" the"]),
        ("1in_in", [b"1", b"in", b"_", b"in"]),
    ],
)
def test_neighbours_that_make_the_earliest_piece_are_joined_first(text: str, pieces: list[bytes]) -> None:
    assert [PIECES[token] for token in ByteLevelEncoder(PIECES)(text)] == pieces


def test_a_word_without_end_takes_no_time() -> None:
    started = time.process_time()
    tokens = ByteLevelEncoder(PIECES)("he" * 10_000)
    assert tokens == [PIECES.index(b"he")] * 10_000
    assert time.process_time() - started < 5


def test_bytes_are_written_as_characters_that_can_be_seen() -> None:
    assert piece_bytes("Ġthe") == b" the"
    assert piece_bytes("Ã©") == "é".encode()
    assert piece_bytes("<|en|>") == b"<|en|>"
    assert piece_bytes("你") == "你".encode()
