"""What is printed of who spoke: `asrloop transcribe` and `asr-client` may not import each other, and print the same."""

import pytest
from asrloop_client import Segment, speakers
from asrloop_client import Transcript as Received
from hypothesis import given
from hypothesis import strategies as st

from asrloop import printing
from asrloop.engine import outputs
from asrloop.engine.outputs import Transcript

Said = list[tuple[int, str]]


def by_server(said: Said) -> list[str]:
    segments = [outputs.Segment(text, at, at + 1, speaker) for at, (speaker, text) in enumerate(said)]
    return list(printing.text_of(Transcript("".join(text for _, text in said), [], [], [], segments=segments)))


def by_client(said: Said) -> list[str]:
    segments = [Segment(text, at, at + 1, speaker if speaker >= 0 else None) for at, (speaker, text) in enumerate(said)]
    heard = Received(
        text="".join(text for _, text in said), segments=tuple(segments), words=(), duration=None, confidence=None,
        complete=True, tokens=(), token_times=(), endpoint="host:1",
    )  # fmt: skip
    return list(speakers.turns(heard))


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        ([], [""]),
        ([(-1, "Ever tried?"), (-1, "No matter.")], ["Ever tried?No matter."]),
        (
            [(0, "Ever tried?"), (0, "Ever failed?"), (49, "No\nmatter."), (-1, "Try again.")],
            ["Speaker 1: Ever tried? Ever failed?", "Speaker 50: No matter.", "Speaker ?: Try again."],
        ),
        ([(1, "今天很好。"), (1, "明天見。")], ["Speaker 2: 今天很好。明天見。"]),
    ],
)
def test_a_turn_is_a_line_that_begins_with_its_speaker(said: Said, lines: list[str]) -> None:
    assert by_server(said) == by_client(said) == lines


@given(st.lists(st.tuples(st.integers(-1, 60), st.text(max_size=12))))
def test_both_print_the_same_of_anything(said: Said) -> None:
    assert by_server(said) == by_client(said)
