"""Who spoke: what is asked for, how it is read, and how text, JSON and subtitles tell it."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from asrloop_client import AsrClient, InvalidConfig, InvalidOption, Segment, Transcript, Word, wire
from asrloop_client.asked import asked

from asrloop.tritonserver.process import TritonServer
from tests.client.stub import Stub
from tests.client.test_cli import run
from tests.client.test_subtitles import cues
from tests.client.test_wire import TEXT, TOKENS, floats, response, texts
from tests.conftest import words

Connect = Callable[..., Any]
RATE = 16_000


def numbers(*given: int) -> bytes:
    return struct.pack(f"<{len(given)}i", *given)


def heard(*segments: Segment) -> Transcript:
    """A transcript whose words take half a second each."""
    said = [
        Word(text, one.start + at / 2, one.start + (at + 1) / 2, None, one.speaker)
        for one in segments
        for at, text in enumerate(one.text.split())
    ]
    return Transcript(
        text=" ".join(one.text for one in segments), segments=segments, words=tuple(said), duration=None, confidence=None,
        complete=True, tokens=(), token_times=(), endpoint="host:1",
    )  # fmt: skip


TALK = heard(
    Segment("Ever tried?", 0.0, 1.0, 0),
    Segment("Ever failed?", 1.5, 2.5, 0),
    Segment("No matter.", 2.5, 3.5, 1),
    Segment("<Try> again.", 3.5, 4.5, 0),
)


def test_what_is_asked_for_are_the_servers_parameters() -> None:
    assert asked(None, diarize=True, speakers=2) == {"diarize": True, "speakers": 2}
    assert asked(None, diarize="channels") == {"diarize": "channels"}
    assert asked({"diarize": True}, speakers=3) == {"diarize": True, "speakers": 3}
    assert asked(None, diarize=False, speakers=None) == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"diarize": "voices"}, "diarize is 'voices': give True, 'channels' or False"),
        ({"diarize": 1}, "diarize is 1: give True"),
        ({"diarize": None}, "diarize is None: give True"),
        ({"diarize": True, "speakers": 0}, "speakers is 0: give a whole number of 1 or more"),
        ({"diarize": True, "speakers": 2.0}, "speakers is 2.0: give a whole number"),
        ({"diarize": True, "speakers": True}, "speakers is True: give a whole number"),
        ({"speakers": 2}, "speakers is 2, and diarize is not True"),
        ({"diarize": "channels", "speakers": 2}, "speakers is 2, and diarize is not True"),
    ],
)
def test_what_no_server_could_take_is_refused_at_once(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        asked(None, **wrong)


@pytest.mark.parametrize("wrong", [{"diarize": True}, {"speakers": 2}, {"parameters": {"diarize": "channels"}}])
def test_live_audio_does_not_tell_speakers_apart(make_stub: Callable[[], Stub], wrong: dict[str, Any]) -> None:
    with (
        AsrClient(make_stub().address) as client,
        pytest.raises(InvalidConfig, match="live audio does not tell speakers apart"),
        client.stream([], **wrong) as stream,
    ):
        list(stream)


def test_speakers_are_read_or_none() -> None:
    said = {
        "TRANSCRIPTS": TEXT,
        "TOKENS": TOKENS,
        "SEGMENTS": texts("a", "b", ""),
        "SEGMENT_TIMES": floats(0, 1, 2, 3, -1, -1),
        "WORDS": texts("a", "b", ""),
        "WORD_TIMES": floats(0, 1, 2, 3, -1, -1),
    }
    reply = wire.read_reply(
        response(**said, SEGMENT_SPEAKERS=numbers(1, -1, -1), WORD_SPEAKERS=numbers(1, 0, -1)), "host:1"
    )
    assert reply.segments == (Segment("a", 0, 1, 1), Segment("b", 2, 3, None))
    assert reply.words == (Word("a", 0, 1, None, 1), Word("b", 2, 3, None, 0)), "a server may send no confidences"
    for outputs in ({}, {"WORD_SPEAKERS": b"", "SEGMENT_SPEAKERS": numbers(0)}):
        reply = wire.read_reply(response(**said, **outputs), "host:1")
        assert {each.speaker for each in (*reply.words, *reply.segments)} == {None}


def test_the_text_has_a_line_for_each_turn() -> None:
    turns = "Speaker 1: Ever tried? Ever failed?\nSpeaker 2: No matter.\nSpeaker 1: <Try> again.\n"
    assert TALK.to_txt() == turns
    unsure = heard(Segment("Ever tried?", 0, 1, 0), Segment("No\n\nmatter.", 1, 2))
    assert unsure.to_txt() == "Speaker 1: Ever tried?\nSpeaker ?: No matter.\n"
    assert heard(Segment("Ever tried?", 0, 1), Segment("No matter.", 1, 2)).to_txt() == "Ever tried? No matter.\n"


def test_a_cue_is_of_one_speaker_and_says_whose() -> None:
    assert cues(TALK.to_srt()) == [
        (0.0, 1.0, ["Speaker 1: Ever tried?"]),
        (1.5, 2.5, ["Speaker 1: Ever failed?"]),
        (2.5, 3.5, ["Speaker 2: No matter."]),
        (3.5, 4.5, ["Speaker 1: <Try> again."]),
    ]
    vtt = TALK.to_vtt()
    assert "\n00:00:02.500 --> 00:00:03.500\n<v Speaker 2>No matter.\n\n" in vtt
    assert "<v Speaker 1>&lt;Try&gt; again." in vtt
    unsure = heard(Segment("Ever tried?", 0, 1, 0), Segment("No matter.", 1, 2))
    assert cues(unsure.to_srt())[1][2] == ["No matter."]
    assert unsure.to_vtt().endswith("\nNo matter.\n\n")


def test_cues_of_channels_that_speak_at_once_are_in_order() -> None:
    """WebVTT takes no cue that starts before the one before it (W3C, 4.1)."""
    said = "so it goes on and on until all of this has been said"
    talk = heard(Segment(f"{said} {said}", 0, 12, 0), Segment("Yes.", 1, 1.5, 1), Segment("I see.", 6.2, 7.2, 1))
    srt, vtt = cues(talk.to_srt()), talk.to_vtt()
    starts = [start for start, _, _ in srt]
    assert starts == sorted(starts)
    assert [block.split(" --> ")[0][-12:] for block in vtt.split("\n\n")[1:-1]] == [
        f"00:00:{start:06.3f}" for start in starts
    ]
    shown = [(lines[0][:11], " ".join(lines)[11:]) for _, _, lines in srt]
    assert " ".join(text for who, text in shown if who == "Speaker 1: ") == f"{said} {said}"
    assert [text for who, text in shown if who == "Speaker 2: "] == ["Yes.", "I see."]


@pytest.mark.parametrize("width", [14, 24, 42])
def test_the_speaker_takes_room_in_the_line(width: int) -> None:
    said = "so it goes on and on until all of this has been said"
    found = cues(heard(Segment(f"{said} {said}", 0, 20, 9)).to_srt(width))
    assert all(lines[0].startswith("Speaker 10: ") for _, _, lines in found)
    shown = [line for _, _, lines in found for line in lines]
    assert max(map(len, shown)) <= max(width, len("Speaker 10: until"))
    assert " ".join(shown).replace("Speaker 10: ", "") == " ".join([said, said])


def test_speakers_of_a_real_server(connect: Connect, server: TritonServer, call_path: Path, beckett_path: Path) -> None:
    client = connect(server.grpc_endpoint)
    samples, rate = soundfile.read(call_path, dtype="float32")
    alone = [words(client.transcribe(samples[:, channel], sample_rate=rate).text) for channel in (0, 1)]
    two = client.transcribe(call_path, diarize="channels")
    assert [each.speaker for each in two.segments] == sorted(each.speaker for each in two.segments)
    for speaker in (0, 1):
        assert words(" ".join(each.text for each in two.segments if each.speaker == speaker)) == alone[speaker]
        assert words(" ".join(each.text for each in two.words if each.speaker == speaker)) == alone[speaker]
    first, second = two.to_txt().splitlines()
    assert (first[:11], words(first[11:])) == ("Speaker 1: ", alone[0])
    assert (second[:11], words(second[11:])) == ("Speaker 2: ", alone[1])
    (one,) = client.transcribe_many([beckett_path], diarize=True, speakers=2)
    assert {each.speaker for each in (*one.segments, *one.words)} == {0}
    plain = client.transcribe(beckett_path)
    assert plain.text == one.text
    assert plain.segments[0].speaker is None
    with pytest.raises(InvalidOption, match="the audio has 1 channel"):
        client.transcribe(beckett_path, diarize="channels")


def test_the_command_tells_who_spoke(server: TritonServer, call_path: Path, beckett_path: Path) -> None:
    to = ("--server", server.grpc_endpoint)
    lines = run("transcribe", call_path, "--diarize-channels", *to).stdout.splitlines()
    assert [line[:11] for line in lines] == ["Speaker 1: ", "Speaker 2: "]
    several = run("transcribe", call_path, beckett_path, "--diarize", "--speakers=3", *to).stdout.splitlines()
    assert all(line.startswith((f"{call_path}: Speaker ", f"{beckett_path}: Speaker 1: ")) for line in several)
    (told,) = map(json.loads, run("transcribe", call_path, "--diarize-channels", "--json", *to).stdout.splitlines())
    assert {each["speaker"] for each in told["segments"]} == {each["speaker"] for each in told["words"]} == {0, 1}
    vtt = run("transcribe", call_path, "--diarize-channels", "--format=vtt", *to).stdout
    assert "<v Speaker 1>" in vtt
    assert "<v Speaker 2>" in vtt
    both = run("transcribe", call_path, "--diarize", "--diarize-channels", *to)
    assert both.returncode == 2
    assert "give one of --diarize and --diarize-channels" in both.stderr
    alone = run("transcribe", call_path, "--speakers=2", *to)
    assert alone.returncode == 2
    assert "--speakers" in alone.stderr


def test_an_option_of_the_wrong_kind_costs_no_call(server: TritonServer) -> None:
    with AsrClient(server.grpc_endpoint) as client, pytest.raises(InvalidConfig, match="diarize is 'yes'"):
        client.transcribe(b"", diarize="yes")
