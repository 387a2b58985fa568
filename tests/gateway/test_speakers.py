"""Who spoke, by OpenAI's package: its format diarized_json, our fields `diarize` and `speakers`, and what cannot be asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from asrloop_client import Segment
from asrloop_client.errors import from_status
from asrloop_gateway.chunking import cut_at_pauses
from asrloop_gateway.errors import from_asr
from asrloop_gateway.formats import FORMATS, ResponseOptions
from asrloop_gateway.speakers import letter
from grpc import StatusCode
from openai import OpenAI
from openai.types.audio import TranscriptionDiarized, TranscriptionTextSegmentEvent
from websockets.asyncio.client import connect

from asrloop.speakers.networks import OnnxNetworks
from tests.conftest import words
from tests.gateway.conftest import RunningGateway
from tests.gateway.test_contract import parsed, refused, said

RATE = 16_000
MODEL = "gpt-4o-transcribe-diarize"


@pytest.fixture(scope="module")
def ask(gateway: RunningGateway, call_path: Path) -> Iterator[Any]:
    """A transcription; `extra` are fields that the package does not know."""
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=60) as client:

        def create(content: bytes = call_path.read_bytes(), extra: dict[str, Any] | None = None, **options: Any) -> Any:
            return client.audio.transcriptions.create(
                file=("call.wav", content), extra_body=extra or {}, **{"model": MODEL, **options}
            )

        yield create


def test_speakers_have_letters() -> None:
    assert [letter(number) for number in (None, 0, 1, 25, 26, 49)] == ["", "A", "B", "Z", "AA", "AX"]


def test_missing_networks_are_told_without_the_servers_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        OnnxNetworks(tmp_path / "decoder_loop" / "1").check()
    details = f"in ensemble 'asr_file', [invalid_option] diarize is true: {missing.value}"
    told = from_status(StatusCode.INVALID_ARGUMENT, details, "10.0.0.7:8001")
    assert "make it with `asrloop models`" in str(told), "whoever calls the server is told what to do"
    error = from_asr(told, "id")
    assert (error.status, error.code, error.param) == (400, "invalid_option", "diarize")
    assert error.message == f"diarize is true: {missing.value}"
    assert "/" not in error.message
    assert "10.0.0.7" not in error.message


def test_the_package_calls_it_as_it_calls_openai(ask: Any, beckett_file: bytes) -> None:
    told = ask(beckett_file, response_format="diarized_json", chunking_strategy="auto")
    assert type(told) is TranscriptionDiarized
    assert told.task == "transcribe"
    assert 9 < told.duration < 11
    assert told.usage is not None
    assert told.text == ask(beckett_file).text
    assert " ".join(segment.text for segment in told.segments) == told.text
    assert {segment.speaker for segment in told.segments} == {"A"}
    assert {segment.type for segment in told.segments} == {"transcript.text.segment"}
    assert [segment.id for segment in told.segments] == [str(number) for number in range(len(told.segments))]
    assert all(0 <= segment.start < segment.end <= told.duration for segment in told.segments)


def test_the_events_tell_who_spoke(ask: Any) -> None:
    whole = ask(response_format="diarized_json", extra={"diarize": "channels"})
    events = list(ask(response_format="diarized_json", stream=True, extra={"diarize": "channels"}))
    segments = [event for event in events if type(event) is TranscriptionTextSegmentEvent]
    assert [each.to_dict() for each in segments] == [each.to_dict() for each in whole.segments]
    assert [each.speaker for each in segments] == sorted(each.speaker for each in segments)
    assert {each.speaker for each in segments} == {"A", "B"}
    assert events[-1].text == whole.text
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == whole.text


def test_other_formats_tell_it_where_they_are_asked_to(ask: Any) -> None:
    channels = {"diarize": "channels"}
    verbose = ask(response_format="verbose_json", extra=channels, timestamp_granularities=["word", "segment"]).to_dict()
    for kind in ("segments", "words"):
        assert {each["speaker"] for each in verbose[kind]} == {"A", "B"}
    text = ask(response_format="text", extra=channels)
    first, second = text.splitlines()
    assert (first[:11], second[:11]) == ("Speaker 1: ", "Speaker 2: ")
    assert words(first[11:]) == words(" ".join(each["text"] for each in verbose["segments"] if each["speaker"] == "A"))
    srt = ask(response_format="srt", extra=channels)
    assert "\nSpeaker 1: " in srt
    assert "\nSpeaker 2: " in srt
    assert srt.count(" --> ") == len(verbose["segments"]), "a cue a segment, where no words are asked for"
    assert "\n<v Speaker 2>" in ask(response_format="vtt", extra=channels)
    assert "speaker" not in ask(response_format="verbose_json").to_dict()["segments"][0]
    assert "speaker" not in ask(response_format="verbose_json", timestamp_granularities=["word"]).to_dict()["words"][0]


def test_segments_have_their_own_tokens_where_channels_speak_at_once() -> None:
    spoken = said(("Ever", 0.4, 0.7), ("tried.", 2.0, 3.0), ("Ever", 0.5, 1.0))
    segments = Segment("Ever tried.", 0.4, 3.0, 0), Segment("Ever", 0.5, 1.0, 1)
    tokens = {
        "tokens": (5, 6, 7, 5),
        "token_times": (0.4, 2.0, 3.0, 0.5),
        "token_pieces": (" Ever", " tried", ".", " Ever"),
    }
    spoken = replace(spoken, text="Ever tried. Ever", segments=segments, **tokens)
    told = json.loads(FORMATS["verbose_json"](spoken, ResponseOptions("any")).body)
    assert [segment["tokens"] for segment in told["segments"]] == [[5, 6, 7], [5]]
    halves = replace(spoken, segments=(Segment("Ever \u00e9", 0.4, 3.0, 0), Segment("\u00e9 Ever \ufffd", 0.5, 1.0, 1)))
    pieces = (" Ever", " ", "\ufffd", "\ufffd", " ", "\ufffd", "\ufffd", " Ever", " \ufffd")
    halves = replace(halves, tokens=tuple(range(9)), token_pieces=pieces, token_times=(0.5,) * 9)
    told = json.loads(FORMATS["verbose_json"](halves, ResponseOptions("any")).body)
    first, second = (segment["tokens"] for segment in told["segments"])
    assert first + second == list(range(9))
    assert second[-2:] == [7, 8], "parts of a character spell nothing, and what follows stays where it belongs"


def test_a_pause_that_is_asked_for_ends_segments_of_one_speaker(ask: Any) -> None:
    vad = {"type": "server_vad", "silence_duration_ms": 60_000}
    told = ask(response_format="diarized_json", chunking_strategy=vad, extra={"diarize": "channels"})
    assert [segment.speaker for segment in told.segments] == ["A", "B"]


def test_segments_between_pauses_end_where_the_speaker_changes() -> None:
    spoken = said(("Ever", 0.4, 0.7), ("tried.", 0.7, 1.0), ("Ever", 1.0, 1.6))
    speakers = zip(spoken.words, (0, 0, 1), strict=True)
    spoken = replace(spoken, words=tuple(replace(word, speaker=speaker) for word, speaker in speakers))
    cut = cut_at_pauses(spoken, 5)
    assert cut.segments == (Segment("Ever tried.", 0.4, 1.0, 0), Segment("Ever", 1.0, 1.6, 1))


def test_what_is_asked_is_checked_and_passed_on() -> None:
    assert parsed(("response_format", "diarized_json")).asked.parameters == {"diarize": "true"}
    given = parsed(("response_format", "srt"), ("diarize", "True"), ("speakers", "3"))
    assert given.asked.parameters == {"diarize": "true", "speakers": 3}
    both = parsed(("response_format", "diarized_json"), ("diarize", "channels"))
    assert both.asked.parameters == {"diarize": "channels"}
    assert parsed(("diarize", "false")).asked.parameters == {}


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"diarize": "true"}, "diarize", "response_format json cannot tell who spoke. Give diarized_json, verbose_json"),
        ({"diarize": "channels", "response_format": "json"}, "diarize", "cannot tell who spoke"),
        ({"diarize": "true", "response_format": "srt", "stream": "true"}, "diarize", "Give diarized_json or verbose_json"),
        ({"diarize": "false", "response_format": "diarized_json"}, "diarize", "is diarized_json, and diarize is false"),
        ({"diarize": "voices", "response_format": "srt"}, "diarize", "diarize is 'voices'. Give true, false or channels."),
        ({"speakers": "two", "diarize": "true", "response_format": "srt"}, "speakers", "speakers is 'two'. Give a whole"),
        (
            {"timestamp_granularities[]": "word", "response_format": "diarized_json"},
            "timestamp_granularities[]",
            "cannot hold words",
        ),
        ({"include[]": "logprobs", "response_format": "diarized_json"}, "include[]", "cannot hold logprobs"),
    ],
)  # fmt: skip
def test_fields_that_contradict_are_refused(fields: dict[str, str], param: str, message: str) -> None:
    error = refused(*fields.items())
    assert (error.code, error.param) == ("invalid_form", param)
    assert message in error.message


@pytest.mark.parametrize(
    ("extra", "param", "message"),
    [
        ({"diarize": "channels"}, "diarize", "the audio has 1 channel"),
        ({"diarize": "true", "speakers": 51}, "speakers", "send a whole number in 1..50"),
        ({"speakers": 2}, "speakers", "diarize is not true"),
    ],
)
def test_what_the_servers_refuse_is_said_with_its_field(
    ask: Any, beckett_file: bytes, extra: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        ask(beckett_file, response_format="verbose_json", extra=extra)
    assert (caught.value.code, caught.value.param) == ("invalid_option", param)


@pytest.mark.parametrize("fields", [{"diarize": True}, {"diarize": "channels"}, {"speakers": 2}])
def test_sockets_say_that_live_audio_does_not_tell_speakers_apart(
    gateway: RunningGateway, fields: dict[str, Any]
) -> None:
    async def error(path: str, message: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(60), connect(f"ws://{gateway.address}{path}") as socket:
            await socket.send(json.dumps(message))
            while "error" not in (event := json.loads(await socket.recv())):
                pass
            return dict(event["error"])

    found = asyncio.run(error("/v1/stream", {"type": "start", **fields}))
    assert (found["code"], found["param"]) == ("not_supported", next(iter(fields)))
    assert "live audio does not tell speakers apart" in found["message"]
    session = {"type": "transcription", "audio": {"input": {"transcription": fields}}}
    found = asyncio.run(error("/v1/realtime?intent=transcription", {"type": "session.update", "session": session}))
    assert found["code"] == "invalid_session"
    assert "live audio does not tell speakers apart" in found["message"]
