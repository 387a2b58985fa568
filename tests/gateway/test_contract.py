"""The fields of OpenAI's API that change little or nothing: each is honoured, or refused with its name, or documented."""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from asrloop_client import Segment, Transcript, Word
from asrloop_gateway.app import make_app
from asrloop_gateway.asked import Asked
from asrloop_gateway.chunking import cut_at_pauses, pause_of
from asrloop_gateway.errors import ApiError
from asrloop_gateway.fields import FormFields, parse_fields
from asrloop_gateway.settings import Settings
from asrloop_gateway.uploads import Form
from openai import OpenAI
from starlette.datastructures import FormData, UploadFile
from starlette.testclient import TestClient

from tests.conftest import BECKETT, words
from tests.gateway.conftest import RunningGateway
from tests.gateway.test_words import Watched

VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 250}


def form(*fields: tuple[str, str]) -> Form:
    return Form(FormData(fields), UploadFile(io.BytesIO(b"audio"), size=5))


def parsed(*fields: tuple[str, str]) -> FormFields:
    return parse_fields(form(*fields), Settings())


def refused(*fields: tuple[str, str]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parsed(*fields)
    assert caught.value.status == 400
    return caught.value


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def ask(client: OpenAI, beckett_file: bytes) -> Any:
    def create(**options: Any) -> Any:
        return client.audio.transcriptions.create(**{"file": ("b.wav", beckett_file), "model": "any", **options})

    return create


@pytest.mark.parametrize("given", ["", "auto", '"auto"', "null", '{"type": "server_vad"}'])
def test_the_servers_own_pauses_end_segments_where_none_is_asked_for(given: str) -> None:
    assert pause_of(form(("chunking_strategy", given))) is None
    assert pause_of(form(("chunking_strategy[type]", "server_vad"), ("chunking_strategy[threshold]", "0.5"))) is None


def test_a_pause_comes_as_json_or_in_fields_of_its_own() -> None:
    assert pause_of(form(("chunking_strategy", json.dumps(VAD)))) == 0.25
    assert pause_of(form(*((f"chunking_strategy[{name}]", str(value)) for name, value in VAD.items()))) == 0.25


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"chunking_strategy": "none"}, "chunking_strategy"),
        ({"chunking_strategy": "server_vad"}, "chunking_strategy"),
        ({"chunking_strategy": "[1]"}, "chunking_strategy"),
        ({"chunking_strategy": "[" * 20_000}, "chunking_strategy"),
        ({"chunking_strategy": "7"}, "chunking_strategy"),
        ({"chunking_strategy": "{}"}, "chunking_strategy[type]"),
        ({"chunking_strategy": '{"type": "semantic_vad"}'}, "chunking_strategy[type]"),
        ({"chunking_strategy": '{"type": "server_vad", "threshold": NaN}'}, "chunking_strategy[threshold]"),
        ({"chunking_strategy": '{"type": "server_vad", "pause": 1}'}, "chunking_strategy[pause]"),
        ({"chunking_strategy[threshold]": "0.5"}, "chunking_strategy[type]"),
        ({"chunking_strategy[type]": "server_vad", "chunking_strategy": "auto"}, "chunking_strategy"),
        *(
            ({"chunking_strategy[type]": "server_vad", f"chunking_strategy[{name}]": value}, f"chunking_strategy[{name}]")
            for name, value in [
                ("threshold", "1.5"),
                ("threshold", "loud"),
                ("prefix_padding_ms", "-1"),
                ("silence_duration_ms", "60001"),
                ("silence_duration_ms", "1e999"),
                ("silence_duration_ms", "0.5"),
            ]
        ),
    ],
)  # fmt: skip
def test_a_strategy_that_is_none_is_refused_with_its_field(fields: dict[str, str], param: str) -> None:
    error = refused(*fields.items())
    assert (error.code, error.param) == ("invalid_form", param)
    assert "chunking_strategy" in error.message
    assert len(error.message) < 400


def said(*spans: tuple[str, float, float], text: str = "") -> Transcript:
    words_ = tuple(Word(*span) for span in spans)
    whole = text or " ".join(word.text for word in words_)
    return Transcript(
        text=whole, segments=(Segment(whole, 0.0, 9.0),), words=words_, duration=9.0, confidence=1.0, complete=True,
        tokens=(), token_times=(), endpoint="",
    )  # fmt: skip


def test_segments_lie_between_pauses() -> None:
    spoken = said(("Ever", 0.4, 0.7), ("tried.", 0.7, 1.0), ("Ever", 1.3, 1.6), ("failed.", 2.6, 3.0))
    assert cut_at_pauses(spoken, 0.3).segments == (
        Segment("Ever tried.", 0.4, 1.0), Segment("Ever", 1.3, 1.6), Segment("failed.", 2.6, 3.0),
    )  # fmt: skip
    assert [each.text for each in cut_at_pauses(spoken, 0.5).segments] == ["Ever tried. Ever", "failed."]
    assert [each.text for each in cut_at_pauses(spoken, 5).segments] == [spoken.text]
    assert len(cut_at_pauses(spoken, 0).segments) == 4
    without = said(("Ever", 0.4, 0.7), text="Ever tried.")
    assert cut_at_pauses(without, 0.1) == without, "nothing that was said is left out"
    assert cut_at_pauses(said(), 0.1).segments == (), "without text there is none"


def test_pauses_that_are_asked_for_end_segments(ask: Any) -> None:
    own = ask(response_format="verbose_json").segments
    verbose = ask(response_format="verbose_json", chunking_strategy=VAD)
    assert len(own) == 1
    assert len(verbose.segments) > 3
    assert " ".join(segment.text for segment in verbose.segments) == verbose.text
    assert words(verbose.text) == BECKETT
    assert all(one.end + 0.25 <= other.start + 0.002 for one, other in itertools.pairwise(verbose.segments))
    assert verbose.words is None
    events = list(ask(response_format="verbose_json", chunking_strategy=VAD, stream=True))
    told = [event.text for event in events if event.type == "transcript.text.segment"]
    assert (told, "words" in events[-1].to_dict()) == ([segment.text for segment in verbose.segments], False)
    assert ask(response_format="srt", chunking_strategy=VAD).count(" --> ") == len(verbose.segments)
    assert words(ask(chunking_strategy="auto").text) == BECKETT


def test_a_strategy_that_is_none_is_an_error_of_the_package(ask: Any) -> None:
    with pytest.raises(
        openai.BadRequestError, match=r"chunking_strategy\[threshold\] is '2'. Give auto, or an"
    ) as caught:
        ask(chunking_strategy={**VAD, "threshold": 2})
    assert caught.value.param == "chunking_strategy[threshold]"


def test_usage_is_the_length_of_the_audio_in_all_that_has_it(ask: Any) -> None:
    *_, done = ask(stream=True)
    *_, verbose_done = ask(stream=True, response_format="verbose_json")
    for response in (ask(), ask(response_format="verbose_json"), done, verbose_done):
        assert response.to_dict()["usage"] == {"type": "duration", "seconds": 10}


def test_log_probabilities_are_told_or_refused(ask: Any) -> None:
    plain, verbose = ask(include=["logprobs"]), ask(include=["logprobs"], response_format="verbose_json")
    assert verbose.to_dict()["logprobs"] == plain.to_dict()["logprobs"]
    assert "logprobs" not in ask(response_format="verbose_json").to_dict()
    for format_ in ("text", "srt", "vtt"):
        error = refused(("include[]", "logprobs"), ("response_format", format_))
        assert (error.code, error.param) == ("invalid_form", "include[]")
        assert parsed(("include[]", "logprobs"), ("response_format", format_), ("stream", "true")).tells.logprobs
    assert "include[] is 'words'. Give one of logprobs, progress" in refused(("include[]", "words")).message


@pytest.mark.parametrize(
    "name", ["language", "model", "prompt", "response_format", "temperature", "chunking_strategy[type]"]
)
def test_a_field_that_contradicts_itself_is_refused(name: str) -> None:
    """The last one held, in silence."""
    error = refused((name, "1"), (name, " 1"), (name, "2"))
    assert (error.code, error.param) == ("invalid_form", name)
    assert f"{name} was sent 3 times: '1', '2'. Send one value." in error.message


def test_a_field_that_repeats_itself_is_one() -> None:
    assert parsed(("language", "en"), ("language", "en ")).asked.language == "en"


@pytest.mark.parametrize("field", ["known_speaker_names[]", "known_speaker_names"])
def test_names_of_known_speakers_are_refused_as_such(field: str) -> None:
    error = refused((field, "agent"), ("response_format", "diarized_json"))
    assert (error.code, error.param) == ("not_supported", "known_speaker_names[]")
    assert "Voices are not compared with recordings of known speakers" in error.message


def test_recordings_of_speakers_are_refused_as_such(ask: Any) -> None:
    sample = "data:audio/wav;base64," + "A" * 400_000
    with pytest.raises(openai.BadRequestError, match="Voices are not compared with recordings") as caught:
        ask(
            model="gpt-4o-transcribe-diarize",
            response_format="diarized_json",
            known_speaker_names=["agent"],
            known_speaker_references=[sample],
        )
    assert caught.value.param in ("known_speaker_names[]", "known_speaker_references[]")


def test_a_name_that_promises_speakers_gets_the_text(ask: Any) -> None:
    assert words(ask(model="gpt-4o-transcribe-diarize", chunking_strategy="auto").text) == BECKETT
    assert parsed(("known_speaker_names[]", ""), ("diarize", "false"), ("include[]", "")).format == "json"


def test_temperature_changes_nothing(ask: Any) -> None:
    assert ask(temperature=1).text == ask().text


def test_keywords_are_key_terms(ask: Any) -> None:
    assert "fayle" in words(ask(keywords=["Szczecin", "Fayle"], extra_body={"key_terms_boost": 10}).text)
    with pytest.raises(openai.BadRequestError, match="a term of 65 characters") as caught:
        ask(keywords=["a" * 65])
    assert caught.value.param == "keywords[]"


def test_of_several_languages_the_model_takes_those_it_has(ask: Any) -> None:
    told = ask(languages=["de", "en", "fr"])
    assert words(told.text) == BECKETT
    assert [each.code for each in told.languages] == ["en"]
    *_, done = ask(languages=["en"], stream=True)
    assert [each.code for each in done.languages] == ["en"]
    for none in (["de"], ["de", "nonsense"]):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(languages=none)
        assert caught.value.code == "invalid_option"
    both = refused(("language", "en"), ("languages[]", "en"))
    assert (both.code, both.param) == ("invalid_form", "languages[]")
    assert "has 40 languages. Give at most 32" in refused(*[("languages[]", f"x{n}") for n in range(40)]).message


class Monolingual(Watched):
    """Its servers have no language but English."""

    async def _ask(self, asked: Asked) -> str:
        return "" if asked.language in ("", "en") else "language is another one"


@pytest.mark.parametrize(
    ("transcription", "asked"),
    [
        ({"keywords": ["Ada", "Grace"]}, Asked(key_terms=("Ada", "Grace"))),
        ({"languages": ["en"]}, Asked(language="en")),
        ({"languages": ["en", "de"]}, Asked(language="en")),
    ],
)
def test_a_realtime_session_has_the_same_wishes(transcription: dict[str, Any], asked: Asked) -> None:
    gateway = Monolingual(takes=True)
    assert appended(gateway, transcription) == "overloaded"
    assert gateway.streams == [asked]


def test_a_realtime_session_is_told_that_no_language_is_spoken() -> None:
    gateway = Monolingual(takes=True)
    assert appended(gateway, {"languages": ["fr", "de"]}) == "invalid_option"
    assert gateway.streams == []
    # Refused settings leave the session as it was: audio behind them is heard.
    assert appended(Monolingual(takes=True), {"languages": ["en"] * 33}) == "invalid_session"


def appended(gateway: Watched, transcription: dict[str, Any]) -> Any:
    """The code of the first error, after a session with these wishes got audio."""
    client = TestClient(make_app(gateway), base_url="http://localhost")
    with client.websocket_connect("ws://localhost/v1/realtime") as socket:
        socket.send_json({"type": "session.update", "session": {"audio": {"input": {"transcription": transcription}}}})
        socket.send_json({"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(9_600)).decode()})
        while (message := socket.receive_json())["type"] != "error":
            pass
    return message["error"]["code"]
