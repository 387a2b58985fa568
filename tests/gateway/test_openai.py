"""What OpenAI's own package gets from a real gateway before a real server: REST, events, errors, realtime."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
import soxr
from numpy.typing import NDArray
from openai import AsyncOpenAI, OpenAI
from websockets.exceptions import ConnectionClosed

from tests.audio import zoo
from tests.conftest import BECKETT, words
from tests.gateway.conftest import RunningGateway, StartGateway, pcm

NO_KEY = "no key is needed"


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=NO_KEY, max_retries=0, timeout=60) as client:
        yield client


def test_a_file_becomes_text_in_every_format(client: OpenAI, beckett_file: bytes) -> None:
    def ask(**options: Any) -> Any:
        return client.audio.transcriptions.create(file=("b.wav", beckett_file), model="whisper-1", **options)

    assert words(ask().text) == BECKETT
    assert ask().usage.seconds == 10
    assert words(ask(response_format="text")) == BECKETT
    # The cue ends with the speech, before the file does.
    assert re.match(r"1\n00:00:00,000 --> 00:00:09,[0-4]\d\d\nEver", ask(response_format="srt"))
    assert ask(response_format="vtt").startswith("WEBVTT\n\n00:00:00.000 --> ")
    verbose = ask(
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="en",
        prompt="Beckett",
        temperature=0.5,
    )
    assert (verbose.language, verbose.duration) == ("english", 9.963)
    assert words(" ".join(word.word for word in verbose.words)) == BECKETT
    (segment,) = verbose.segments
    assert (segment.id, segment.start, segment.text) == (0, 0.0, verbose.text)
    assert 9 < segment.end < 9.5
    assert -1 < segment.avg_logprob < 0
    assert 1 < segment.compression_ratio < 2.4
    assert verbose.model == "whisper-1"
    assert len(segment.tokens) == len(ask(include=["logprobs"]).logprobs), "the last mark is not left out"


def test_lengths_are_those_of_what_was_decoded(client: OpenAI, beckett: NDArray[np.float32]) -> None:
    def ask(content: bytes) -> Any:
        return client.audio.transcriptions.create(
            file=("b", content), model="any", response_format="verbose_json", timestamp_granularities=["segment"]
        )

    endless = ask(zoo.flac_without_total(beckett))
    assert (words(endless.text), endless.duration, endless.usage.seconds) == (BECKETT, 9.963, 10)
    twice = ask(zoo.encoded(beckett, 16_000, "OGG", "VORBIS") * 2)
    assert words(twice.text).count("ever tried ever failed no matter try again") == 2
    assert (twice.duration, twice.usage.seconds) == (19.927, 20)
    torn = ask(zoo.piped_wav(beckett, 2 * beckett.size + 192_000))
    assert (words(torn.text), torn.duration, torn.to_dict()["complete"]) == (BECKETT, 9.963, False)


def test_models_are_those_that_are_served(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["asr_ensemble", "asr_file"]


def test_events_of_a_long_file_only_add(client: OpenAI, long_file: bytes) -> None:
    events = list(client.audio.transcriptions.create(file=("b.flac", long_file), model="any", stream=True))
    *deltas, done = events
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert len(deltas) > 1, "words come while the file is worked on"
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in deltas) == done.text
    assert words(done.text).count("ever tried") == 20


def test_progress_and_segments_are_told_when_asked_for(client: OpenAI, long_file: bytes) -> None:
    events: list[Any] = list(
        client.audio.transcriptions.create(
            file=("b.flac", long_file),
            model="any",
            stream=True,
            response_format="verbose_json",
            include=["progress"],  # type: ignore[list-item]  # our own
        )
    )
    told = [event for event in events if event.type == "transcript.progress"]
    assert 0 < told[-1].seconds < told[-1].duration
    segments = [event for event in events if event.type == "transcript.text.segment"]
    assert " ".join(event.text for event in segments) == events[-1].text
    assert all(one.end <= other.start for one, other in itertools.pairwise(segments))


def test_errors_are_those_that_the_package_knows(client: OpenAI, beckett_file: bytes) -> None:
    create = client.audio.transcriptions.create
    with pytest.raises(openai.BadRequestError, match="no readable audio file") as broken:
        create(file=("b.wav", b"not audio" * 99), model="any")
    assert (broken.value.code, broken.value.type, broken.value.param) == (
        "invalid_audio",
        "invalid_request_error",
        "file",
    )
    with pytest.raises(openai.BadRequestError, match="no readable audio file"):
        create(file=("b.wav", b"not audio" * 99), model="any", stream=True)
    with pytest.raises(openai.BadRequestError, match="The file is empty"):
        create(file=("b.wav", b""), model="any")
    with pytest.raises(openai.BadRequestError, match="response_format is 'docx'. Give one of json, text, srt"):
        create(file=("b.wav", beckett_file), model="any", response_format="docx")  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError, match=r"temperature is '7'. Give a number in 0\.\.1"):
        create(file=("b.wav", beckett_file), model="any", temperature=7)
    with (
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.BadRequestError, match="Translation is not supported"),
    ):
        client.audio.translations.create(file=("b.wav", beckett_file), model="any")


def test_a_language_is_passed_on_and_refused_where_the_model_does_not_speak_it(
    client: OpenAI, beckett_file: bytes
) -> None:
    def ask(**options: Any) -> Any:
        return client.audio.transcriptions.create(file=("b.wav", beckett_file), model="any", **options)

    assert words(ask(language="en").text) == BECKETT
    assert words(ask(language="").text) == BECKETT
    for options in ({}, {"stream": True}):
        with pytest.raises(openai.BadRequestError, match=r"de\b.*\ben\b") as refused:
            ask(language="de", **options)
        assert (refused.value.code, refused.value.type, refused.value.param) == (
            "invalid_option",
            "invalid_request_error",
            "language",
        )


def test_keys_are_asked_for_and_rates_are_limited(
    start_gateway: StartGateway, gateway: RunningGateway, server: Any, beckett_file: bytes
) -> None:
    with start_gateway(
        server.grpc_endpoint, keys="a key of our own, another of theirs", requests_per_minute="7"
    ) as mine:

        def client(key: str) -> OpenAI:
            return OpenAI(base_url=f"{mine.url}/v1", api_key=key, max_retries=0, timeout=60)

        for wrong in ("wrong", "a key of our owN"):
            with client(wrong) as refused, pytest.raises(openai.AuthenticationError) as error:
                refused.models.list()
            assert error.value.code == "invalid_api_key"
        with client("another of theirs") as allowed:
            for _ in range(7):
                allowed.models.list()
            with pytest.raises(openai.RateLimitError) as limited:
                allowed.models.list()
            assert 0 < int(limited.value.response.headers["retry-after"]) <= 60


def test_a_server_that_is_not_there_is_said_with_a_time_to_try_again(
    start_gateway: StartGateway, beckett_file: bytes
) -> None:
    with (
        start_gateway("127.0.0.1:1", server_seconds="0.5") as lonely,
        OpenAI(base_url=f"{lonely.url}/v1", api_key=NO_KEY, max_retries=0, timeout=60) as client,
        pytest.raises(openai.InternalServerError) as error,
    ):
        client.audio.transcriptions.create(file=("b.wav", beckett_file), model="any")
    assert (error.value.status_code, error.value.code) == (503, "unavailable")
    assert error.value.response.headers["retry-after"] == "10"
    assert "127.0.0.1" not in str(error.value)


# Realtime


@asynccontextmanager
async def realtime(gateway: RunningGateway, **session: Any) -> AsyncIterator[Any]:
    async with (
        AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=NO_KEY) as client,
        client.realtime.connect(model="gpt-live-transcribe", extra_query={"intent": "transcription"}) as connection,
    ):
        created = await connection.recv()
        assert (created.type, created.session.type) == ("session.created", "transcription")
        if session:
            await connection.session.update(session={"type": "transcription", "audio": {"input": session}})
            updated = await connection.recv()
            assert updated.type == "session.updated", updated
        yield connection


async def append(connection: Any, content: bytes, size: int = 9_600) -> None:
    for start in range(0, len(content), size):
        await connection.input_audio_buffer.append(audio=base64.b64encode(content[start : start + size]).decode())


async def until(connection: Any, kind: str) -> list[Any]:
    """Events up to the first of this kind."""
    events = []
    async with asyncio.timeout(60):
        while not events or events[-1].type != kind:
            events.append(await connection.recv())
    return events


COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"


def test_realtime_tells_turns_as_they_are_spoken(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    sound = soxr.resample(np.pad(beckett, (8_000, 16_000)), 16_000, 24_000)

    async def talk() -> list[Any]:
        async with realtime(gateway, turn_detection={"type": "server_vad"}) as connection:
            await append(connection, pcm(sound))
            await connection.input_audio_buffer.append(audio=base64.b64encode(bytes(48_000)).decode())
            events = []
            while not words(" ".join(e.transcript for e in events if e.type == COMPLETED)).endswith("fail better"):
                events += await until(connection, COMPLETED)
            return events

    events = asyncio.run(talk())
    assert words(" ".join(event.transcript for event in events if event.type == COMPLETED)) == BECKETT
    items = [event.item_id for event in events if event.type == "input_audio_buffer.speech_started"]
    assert len(set(items)) == len(items) > 0
    before = None
    for item in items:
        mine = [event for event in events if event.item_id == item]
        kinds = [event.type for event in mine]
        assert kinds[0] == "input_audio_buffer.speech_started"
        assert kinds[-1] == COMPLETED
        at = kinds.index("input_audio_buffer.speech_stopped")
        assert kinds[at + 1] == "input_audio_buffer.committed"
        assert mine[at + 1].previous_item_id == before
        assert mine[0].audio_start_ms < mine[at].audio_end_ms
        assert "".join(event.delta for event in mine if event.type == DELTA) == mine[-1].transcript
        assert mine[-1].usage.type == "duration"
        before = item


@pytest.mark.parametrize("kind", ["audio/pcm", "audio/pcmu", "audio/pcma"])
def test_realtime_takes_what_is_committed_as_one_item(
    gateway: RunningGateway, beckett: NDArray[np.float32], kind: str
) -> None:
    if kind == "audio/pcm":
        content, format_ = pcm(beckett), {"type": kind, "rate": 16_000}
    else:
        content, format_ = g711(soxr.resample(beckett, 16_000, 8_000), kind), {"type": kind}

    async def talk() -> list[Any]:
        async with realtime(gateway, format=format_, turn_detection=None) as connection:
            await append(connection, content[: len(content) // 2])
            await connection.input_audio_buffer.clear()
            assert (await until(connection, "input_audio_buffer.cleared"))[-1]
            both = []
            for _ in range(2):
                await append(connection, content)
                await connection.input_audio_buffer.commit()
                both.append(await until(connection, COMPLETED))
            return both

    first, second = asyncio.run(talk())
    for events in (first, second):
        assert words(events[-1].transcript) == BECKETT
        assert "".join(event.delta for event in events if event.type == DELTA) == events[-1].transcript
        assert {event.type for event in events} == {"input_audio_buffer.committed", DELTA, COMPLETED}
        assert len({event.item_id for event in events}) == 1
    committed = [next(e for e in events if e.type == "input_audio_buffer.committed") for events in (first, second)]
    assert committed[1].previous_item_id == committed[0].item_id


def test_realtime_errors_leave_the_session_as_it_is(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    async def talk() -> list[Any]:
        errors = []
        async with realtime(gateway, format={"type": "audio/pcm", "rate": 16_000}, turn_detection=None) as connection:
            for message in (
                {"type": "response.create", "event_id": "mine"},
                {"type": "input_audio_buffer.append", "audio": "*"},
                {"type": "input_audio_buffer.append", "audio": base64.b64encode(b"odd").decode()},
                {"type": "input_audio_buffer.commit"},
                {"type": "session.update", "session": {"type": "realtime"}},
                {"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/opus"}}}}},
                {
                    "type": "session.update",
                    "session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 7}}}},
                },
            ):
                await connection.send(message)
                errors += await until(connection, "error")
            await append(connection, pcm(beckett))
            await connection.input_audio_buffer.commit()
            assert words((await until(connection, COMPLETED))[-1].transcript) == BECKETT
        return errors

    errors = asyncio.run(talk())
    assert [event.error.code for event in errors] == [
        "invalid_message",
        "invalid_audio",
        "invalid_audio",
        "input_audio_buffer_commit_empty",
        "invalid_session",
        "invalid_session",
        "invalid_session",
    ]
    assert errors[0].error.event_id == "mine"


@pytest.mark.parametrize("turn_detection", [None, {"type": "server_vad"}])
def test_realtime_ends_a_session_whose_language_the_model_does_not_speak(
    gateway: RunningGateway, beckett: NDArray[np.float32], turn_detection: dict[str, str] | None
) -> None:
    async def talk() -> tuple[Any, int]:
        format_ = {"type": "audio/pcm", "rate": 16_000}
        async with realtime(
            gateway, format=format_, turn_detection=turn_detection, transcription={"language": "de"}
        ) as connection:
            with contextlib.suppress(ConnectionClosed):
                await append(connection, pcm(beckett))
            error = (await until(connection, "error"))[-1].error
            with pytest.raises(ConnectionClosed) as end:
                await connection.recv()
            assert end.value.rcvd is not None
            return error, end.value.rcvd.code

    error, close_code = asyncio.run(talk())
    assert (error.code, error.param, close_code) == ("invalid_option", "language", 1008)
    assert "en" in words(error.message).split()


def test_realtime_takes_a_language_that_is_spoken_and_keeps_it_for_the_open_item(
    gateway: RunningGateway, beckett: NDArray[np.float32]
) -> None:
    async def talk() -> tuple[Any, Any, Any]:
        format_ = {"type": "audio/pcm", "rate": 16_000}
        async with realtime(
            gateway, format=format_, turn_detection=None, transcription={"language": "en", "prompt": "Beckett"}
        ) as connection:
            await append(connection, pcm(beckett))
            other = {"type": "transcription", "audio": {"input": {"transcription": {"language": "fr"}}}}
            await connection.send({"type": "session.update", "session": other})
            updated = (await until(connection, "session.updated"))[-1].session
            await connection.input_audio_buffer.commit()
            completed = (await until(connection, COMPLETED))[-1]
            await append(connection, pcm(beckett[:16_000]))
            return updated, completed, (await until(connection, "error"))[-1].error

    updated, completed, error = asyncio.run(talk())
    assert updated.audio.input.transcription.language == "fr"
    assert words(completed.transcript) == BECKETT
    assert (error.code, error.param) == ("invalid_option", "language")


def test_realtime_knows_the_messages_of_the_beta(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    async def talk() -> Any:
        async with realtime(gateway) as connection:
            wishes = {"input_audio_format": "g711_ulaw", "turn_detection": None}
            await connection.send({"type": "transcription_session.update", "session": wishes})
            updated = await until(connection, "transcription_session.updated")
            assert updated[-1].session["input_audio_format"] == "g711_ulaw"
            await append(connection, g711(soxr.resample(beckett, 16_000, 8_000), "audio/pcmu"))
            await connection.input_audio_buffer.commit()
            return (await until(connection, COMPLETED))[-1]

    assert words(asyncio.run(talk()).transcript) == BECKETT


def g711(samples: NDArray[np.float32], kind: str) -> bytes:
    buffer = io.BytesIO()
    subtype = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}[kind]
    soundfile.write(buffer, samples, 8_000, format="RAW", subtype=subtype)
    return buffer.getvalue()
