"""Turns through the gateway: what /v1/stream and /v1/realtime ask of the servers, and tell of them."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from asrloop_gateway.errors import ApiError
from asrloop_gateway.sessions import Session
from numpy.typing import NDArray

from tests.conftest import words
from tests.gateway.conftest import RunningGateway
from tests.gateway.test_realtime import COMPLETED, Talk, talk
from tests.gateway.test_streams import opened, rest, send

RATE = 16_000
SILENCE = np.zeros(RATE, np.float32)


def streamed(gateway: RunningGateway, pieces: list[Any], **start: Any) -> list[dict[str, Any]]:
    """All messages of /v1/stream. A piece is audio, or a message."""

    async def run() -> list[dict[str, Any]]:
        async with opened(gateway) as socket:
            await socket.send(json.dumps({"type": "start", **start}))
            for piece in pieces:
                await (socket.send(json.dumps(piece)) if isinstance(piece, dict) else send(socket, piece, RATE))
            await socket.send(json.dumps({"type": "end"}))
            return await rest(socket)

    return asyncio.run(run())


def finals(events: list[dict[str, Any]]) -> list[str]:
    return [words(event["stable"]) for event in events if event.get("final")]


END = {"type": "end_segment"}


def test_a_segment_ends_where_the_caller_says_so(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    first, second = beckett[: 4 * RATE], beckett[4 * RATE :]
    events = streamed(gateway, [END, first, END, END, second, END], turn_detection="none")
    assert len(finals(events)) == 2
    assert finals(events)[0].startswith("ever tried")
    assert finals(events)[1].endswith("fail better")


def test_the_turn_detector_is_asked_for(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    asked = {"turn_detection": "semantic", "turn_threshold": 1, "longest_pause_ms": 1000}
    for _ in range(5):  # of pauses and partials that follow one another closely only the latest comes
        events = streamed(gateway, [beckett, SILENCE, SILENCE], **asked)
        if any("turn" in event for event in events):
            break
    assert [event for event in events if "turn" in event]
    assert all(0 <= event["turn"] < 1 for event in events if "turn" in event)
    assert all(event["pause"] is True and not event["final"] for event in events if "pause" in event)
    assert finals(events)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"turn_detection": 7}, "turn_detection is 7"),
        ({"turn_detection": "magic"}, "turn_detection is 'magic': send silence, semantic, none"),
        ({"silence_ms": "long"}, "silence_ms is 'long'. Give a whole number"),
        ({"silence_ms": -1}, "silence_ms is -1: send a number in 100..10000"),
        ({"silence_ms": 10**30}, "silence_ms is 1000000000"),
        ({"silence_ms": True}, "silence_ms is True. Give a whole number"),
        ({"turn_detection": "semantic", "turn_threshold": 2}, "turn_threshold is 2.0: send a number in 0..1"),
        ({"turn_threshold": 0.5}, "it goes with semantic only"),
    ],
)
def test_wrong_settings_are_refused(gateway: RunningGateway, start: dict[str, Any], said: str) -> None:
    events = streamed(gateway, [SILENCE], **start)
    assert events[-1]["error"]["code"] == "invalid_option"
    assert said in events[-1]["error"]["message"]


def test_a_session_is_as_it_was_set(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    given = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 1500}
    eager = {"type": "semantic_vad", "eagerness": "high"}

    async def use(session: Talk) -> None:
        assert (await session.update(turn_detection=given))["turn_detection"] == given
        audio = np.concatenate([beckett, SILENCE, SILENCE])
        await session.append((audio * 32767).astype("<i2").tobytes())
        await session.until(COMPLETED)
        assert words(session.said[0]).endswith("fail better"), "no pause of this speech is so long"
        assert (await session.update(turn_detection=eager))["turn_detection"] == eager
        await session.append((audio * 32767).astype("<i2").tobytes())
        while not words(session.said[-1]).endswith("fail better") or len(session.said) == 1:
            await session.until(COMPLETED)

    talk(gateway, use)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"turn_detection": {"type": "magic"}}, "turn_detection.type"),
        ({"turn_detection": {"type": "semantic_vad", "eagerness": "wild"}}, "turn_detection.eagerness"),
        ({"turn_detection": {"type": "server_vad", "eagerness": "low"}}, "eagerness goes with semantic_vad"),
        ({"turn_detection": {"type": "server_vad", "silence_duration_ms": -5}}, "silence_duration_ms"),
        ({"turn_detection": {"type": "server_vad", "silence_duration_ms": 10**12}}, "silence_duration_ms"),
        ({"turn_detection": {"type": "semantic_vad", "silence_duration_ms": 500}}, "goes with server_vad"),
        ({"turn_detection": {"type": "server_vad", "threshold": 1.5}}, "turn_detection.threshold"),
        ({"turn_detection": {"type": "server_vad", "prefix_padding_ms": 10**6}}, "prefix_padding_ms"),
        ({"turn_detection": {"threshold": True}}, "turn_detection.threshold"),
        ({"turn_detection": {"threshold": "0.5"}}, "turn_detection.threshold"),
        ({"turn_detection": {"threshold": float("nan")}}, "turn_detection.threshold"),
        ({"turn_detection": {"prefix_padding_ms": True}}, "turn_detection.prefix_padding_ms"),
        ({"turn_detection": {"silence_duration_ms": "500"}}, "turn_detection.silence_duration_ms"),
        ({"turn_detection": []}, "turn_detection"),
        ({"turn_detection": ""}, "turn_detection"),
        ({"format": {"rate": "16000"}}, "format.rate"),
        ({"noise_reduction": {"type": "near_field"}}, "noise is not reduced here, send null"),
    ],
)
def test_wrong_settings_of_a_session_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError) as refused:
        Session().updated({"session": {"type": "transcription", "audio": {"input": settings}}})
    assert refused.value.status == 400
    assert said in str(refused.value.body)


@pytest.mark.parametrize("audio", [[], "", "loud", 7, False, {"input": []}, {"input": "loud"}])
def test_settings_that_are_none_change_nothing_and_say_so(audio: Any) -> None:
    with pytest.raises(ApiError, match="session.audio"):
        Session().updated({"session": {"type": "transcription", "audio": audio}})


def test_a_commit_counts_what_no_item_has(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    """With turn detection on, behind turns that are complete."""

    async def use(session: Talk) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        await session.append((np.concatenate([beckett, SILENCE]) * 32767).astype("<i2").tobytes())
        while not session.said or not words(session.said[-1]).endswith("fail better"):
            await session.until(COMPLETED)
        await session.say("input_audio_buffer.commit")
        completed = await session.until(COMPLETED)
        await session.say("input_audio_buffer.commit")
        return completed, (await session.until("error"))[-1]["error"]

    completed, error = talk(gateway, use)
    assert completed[-1]["transcript"] == ""
    assert 0 < completed[-1]["usage"]["seconds"] < 3, "the rest, not all"
    assert error["code"] == "input_audio_buffer_commit_empty"


def test_the_words_of_both_protocols_are_the_servers() -> None:
    def asked(turn_detection: dict[str, Any] | None) -> dict[str, Any]:
        session = Session().updated({"session": {"audio": {"input": {"turn_detection": turn_detection}}}})
        return dict(session.turn_detection.parameters) if session.turn_detection is not None else {}

    assert asked({"type": "server_vad"}) == {}
    assert asked({"type": "server_vad", "silence_duration_ms": 500, "threshold": 0.4, "prefix_padding_ms": 100}) == {
        "silence_ms": 500,
        "speech_threshold": 0.4,
        "padding_ms": 100,
    }
    for eagerness, milliseconds in (("low", 8000), ("medium", 4000), ("auto", 4000), ("high", 2000)):
        assert asked({"type": "semantic_vad", "eagerness": eagerness}) == {
            "turn_detection": "semantic",
            "longest_pause_ms": milliseconds,
        }
