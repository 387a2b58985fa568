"""What voice frameworks do with /v1/realtime: settings between turns, pauses, leaving, and messages that make no sense."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT, words
from tests.gateway.conftest import RunningGateway, StartGateway, pcm
from tests.gateway.test_streams import opened, rest

QUIET = np.zeros(24_000, np.float32)
COMPLETED = "conversation.item.input_audio_transcription.completed"


class Talk:
    """A realtime session by plain messages, 16 kHz PCM unless it says otherwise."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.said: list[str] = []
        """What was completed."""

    async def say(self, kind: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def append(self, content: bytes, size: int = 9_600) -> None:
        for at in range(0, len(content), size):
            await self.say("input_audio_buffer.append", audio=base64.b64encode(content[at : at + size]).decode())

    async def update(self, **settings: Any) -> dict[str, Any]:
        await self.say("session.update", session={"type": "transcription", "audio": {"input": settings}})
        session: dict[str, Any] = (await self.until("session.updated"))[-1]["session"]["audio"]["input"]
        return session

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Events up to the first of this kind. An error that is not waited for fails."""
        events: list[dict[str, Any]] = []
        async with asyncio.timeout(60):
            while not events or events[-1]["type"] != kind:
                events.append(json.loads(await self._socket.recv()))
                assert kind == "error" or events[-1]["type"] != "error", events[-1]
                if events[-1]["type"] == COMPLETED:
                    self.said.append(events[-1]["transcript"])
        return events


def talk(gateway: RunningGateway, use: Any, **settings: Any) -> Any:
    async def run() -> Any:
        async with connect(f"ws://{gateway.address}/v1/realtime?intent=transcription", open_timeout=30) as socket:
            session = Talk(socket)
            await session.until("session.created")
            await session.update(**{"format": {"type": "audio/pcm", "rate": 16_000}, **settings})
            return await use(session)

    return asyncio.run(run())


def test_settings_that_come_while_it_listens_hold_from_the_next_item_on(
    gateway: RunningGateway, beckett: NDArray[np.float32]
) -> None:
    audio = pcm(np.concatenate([beckett, QUIET]))

    async def use(session: Talk) -> str:
        await session.append(pcm(QUIET))
        assert (await session.update(transcription={"language": "en", "prompt": "Beckett"}))["transcription"]
        await session.append(audio)
        await session.update(turn_detection=None, transcription={"language": ""})
        for _ in range(20):  # the rest of what is recognised by turns
            await session.append(pcm(QUIET[:1600]))
            await asyncio.sleep(0.1)
        while not words(" ".join(session.said)).endswith("fail better"):  # what is cleared before is lost
            await session.until(COMPLETED)
        await session.say("input_audio_buffer.clear")
        await session.until("input_audio_buffer.cleared")
        said = " ".join(session.said)
        await session.append(audio)
        await session.update(turn_detection={"type": "server_vad"})  # no commit will come
        return said

    assert words(talk(gateway, use)) == BECKETT


def test_turning_detection_on_ends_the_buffer_and_the_format_cannot_change_within(
    gateway: RunningGateway, beckett: NDArray[np.float32]
) -> None:
    async def use(session: Talk) -> tuple[Any, list[dict[str, Any]]]:
        await session.append(pcm(beckett))
        other = {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
        await session.say("session.update", session=other)
        error = (await session.until("error"))[-1]["error"]
        both = {"type": "transcription", "audio": {"input": {"turn_detection": {"type": "server_vad"}}}}
        await session.say("session.update", session=both)
        return error, await session.until("session.updated")

    error, events = talk(gateway, use, turn_detection=None)
    assert error["code"] == "invalid_session"
    assert [words(one["transcript"]) for one in events if one["type"] == COMPLETED] == [BECKETT]


def test_a_new_format_holds_for_the_next_bytes(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    async def use(session: Talk) -> str:
        await session.append(pcm(np.zeros(16_000, np.float32)))
        described = await session.update(format={"type": "audio/pcmu"}, turn_detection=None)
        assert described["format"] == {"type": "audio/pcmu", "rate": 8_000}
        buffer = io.BytesIO()
        soundfile.write(buffer, beckett[::2], 8_000, format="RAW", subtype="ULAW")
        await session.append(buffer.getvalue())
        await session.say("input_audio_buffer.commit")
        return str((await session.until(COMPLETED))[-1]["transcript"])

    assert len(words(talk(gateway, use)).split()) > 8  # decimated without a filter


def test_a_session_waits_for_audio_longer_than_a_stream_may_pause(
    start_gateway: StartGateway, server: TritonServer, beckett: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prewarmed(session: Talk) -> str:
        await asyncio.sleep(2)
        await session.append(pcm(beckett))
        await session.say("input_audio_buffer.commit")
        return str((await session.until(COMPLETED))[-1]["transcript"])

    async def forgotten(session: Talk) -> Any:
        return (await session.until("error"))[-1]["error"]

    async def held(session: Talk) -> Any:
        await session.append(pcm(beckett[:16_000]))
        return (await session.until("error"))[-1]["error"]

    with start_gateway(server.grpc_endpoint, idle_seconds="1", session_seconds="5") as impatient:
        assert words(talk(impatient, prewarmed, turn_detection=None)) == BECKETT
        error = talk(impatient, forgotten)
        assert (error["code"], error["message"][:24]) == ("too_slow", "No message came for 5 s.")
        error = talk(impatient, held, turn_detection=None)
        assert (error["code"], error["message"][:24]) == ("too_slow", "No message came for 1 s.")


@pytest.mark.slow
def test_a_pause_between_turns_may_be_long(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    """Longer than the server's live.idle_seconds."""

    async def use(session: Talk) -> list[str]:
        said = []
        for _ in range(2):
            await session.append(pcm(np.concatenate([beckett, QUIET[:8_000]])))
            await asyncio.sleep(35)
            await session.say("input_audio_buffer.clear")
            events = await session.until("input_audio_buffer.cleared")
            said.append(words(" ".join(one["transcript"] for one in events if one["type"] == COMPLETED)))
        return said

    assert talk(gateway, use) == [BECKETT] * 2


@pytest.mark.parametrize("text", ["{", "7", "no JSON at all", '{"type": []}', '{"type": {}, "event_id": NaN}'])
def test_text_that_is_no_message_gets_an_error_and_the_session_goes_on(
    gateway: RunningGateway, beckett: NDArray[np.float32], text: str
) -> None:
    async def use(session: Talk) -> tuple[Any, str]:
        await session.append(pcm(beckett))
        await session._socket.send(text)
        error = next(one for one in await session.until("error") if one["type"] == "error")["error"]
        await session.say("input_audio_buffer.commit")
        return error, str((await session.until(COMPLETED))[-1]["transcript"])

    error, said = talk(gateway, use, turn_detection=None)
    assert error["code"] == "invalid_message"
    assert error["event_id"] is None, "what is sent is JSON, whatever came"
    assert words(said) == BECKETT


def test_leaving_and_clearing_are_not_logged(
    start_gateway: StartGateway, server: TritonServer, beckett: NDArray[np.float32]
) -> None:
    async def clears(session: Talk) -> None:
        for _ in range(3):
            await session.append(pcm(beckett[:32_000]))
            await session.say("input_audio_buffer.clear")
            await session.until("input_audio_buffer.cleared")
        await session.append(pcm(beckett[:32_000]))

    async def leaves() -> None:
        async with opened(mine) as socket:
            await socket.send(pcm(beckett))
            await socket.recv()
            socket.transport.abort()

    with start_gateway(server.grpc_endpoint) as mine:
        for detection in ({"type": "server_vad"}, None):
            talk(mine, clears, turn_detection=detection)
        asyncio.run(leaves())
        mine.stop()  # what is left is collected, and said
        assert not [line for line in mine.log if "ERROR" in line or "WARNING" in line or "Traceback" in line], mine.log


FILES = {
    "WebM": bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f381"),
    "Ogg": b"OggS\0\2" + bytes(22) + b"\1\x13OpusHead",
    "MP4": b"\0\0\0\x18ftypisom\0\0\2\0",
    "44100 Hz, 2 channels": b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\2\0\x44\xac\0\0\x10\xb1\2\0\4\0\x10\0data",
}


@pytest.mark.parametrize("kind", FILES)
def test_bytes_of_a_file_are_told_from_audio(gateway: RunningGateway, kind: str) -> None:
    async def stream() -> tuple[list[dict[str, Any]], int | None]:
        async with opened(gateway) as socket:
            await socket.send(FILES[kind] + b"odd" * 100)
            return await rest(socket), socket.close_code

    async def use(session: Talk) -> list[Any]:
        errors = []
        for content in (FILES[kind], bytes(3200)):  # what follows is no audio either
            await session.append(content)
            errors.append((await session.until("error"))[-1]["error"])
        await session.say("input_audio_buffer.clear")
        await session.until("input_audio_buffer.cleared")
        await session.append(bytes(3200))
        await session.say("input_audio_buffer.commit")
        await session.until(COMPLETED)
        return errors

    (event,), close_code = asyncio.run(stream())
    for error in (event["error"], *talk(gateway, use, turn_detection=None)):
        assert error["code"] == "invalid_audio"
        assert kind in error["message"]
        assert "ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -" in error["message"]
    assert close_code == 1008
