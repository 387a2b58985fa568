"""Words are put together from tokens and their times."""

import json

from asrloop_client.transcript import Segment, Timings, Transcript, Word, segments_of, words_of


def test_words_from_pieces() -> None:
    words = words_of([" can", "cel", " the", " door", "."], [0.1, 0.3, 0.5, 0.9, 1.1])
    assert words == (Word("cancel", 0.1, 0.3), Word("the", 0.5, 0.5), Word("door.", 0.9, 1.1))


def test_a_first_piece_without_a_space_starts_a_word_too() -> None:
    assert words_of(["a"], [0.5]) == (Word("a", 0.5, 0.5),)


def test_no_times_no_words() -> None:
    assert words_of([], []) == ()
    assert words_of([" a"], []) == ()


def transcript(*segments: Segment) -> Transcript:
    return Transcript(
        text="a < b", segments=segments, words=(), duration=3.5, confidence=0.5, complete=True, tokens=(1,),
        token_times=(), timings=Timings(1, 0, 1), endpoint="host:1", attempts=1, request_id="x",
    )  # fmt: skip


def test_subtitles_and_json() -> None:
    two = transcript(Segment("a < b", 0.0, 1.25), Segment("so\n\nit goes", 3599.9996, 3661.5))
    srt = "1\n00:00:00,000 --> 00:00:01,250\na < b\n\n2\n01:00:00,000 --> 01:01:01,500\nso it goes\n\n"
    assert two.to_srt() == srt
    assert two.to_vtt().startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.250\na &lt; b\n\n")
    assert json.loads(two.to_json())["segments"][0] == {"text": "a < b", "start": 0.0, "end": 1.25}


def test_segments_are_the_servers_or_one_of_all() -> None:
    assert segments_of(["a", "b"], [0, 1, 2, 3], "a b", 9, ()) == (Segment("a", 0, 1), Segment("b", 2, 3))
    assert segments_of([], [], "a b", 9.0, ()) == (Segment("a b", 0.0, 9.0),)
    assert segments_of([], [], "", 9.0, ()) == ()
