"""WS /v1/stream takes what MediaRecorder makes; a recording that ends its decoder ends its socket alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asrloop_gateway import ffmpeg_worker as gateways
from numpy.typing import NDArray

from asrloop.audio import ffmpeg_worker as servers
from tests.audio.recordings import FRAGMENTED, RECORDINGS, recorded
from tests.audio.zoo import ZOO
from tests.conftest import BECKETT, eventually
from tests.gateway.conftest import RunningGateway
from tests.gateway.test_streams import QUIET, opened, rest, text


def test_server_and_gateway_have_the_same_program() -> None:
    assert Path(servers.__file__).read_bytes() == Path(gateways.__file__).read_bytes()


def recording(kind: str, samples: NDArray[np.float32]) -> bytes:
    samples = np.concatenate([QUIET, samples])
    if kind == "ogg":
        return ZOO["OGG Opus"](samples)
    if kind == "mp4":
        return recorded(samples, "mp4", "aac", piped=True, options=FRAGMENTED)
    return RECORDINGS["live WebM, Opus"](samples)


async def streamed(
    gateway: RunningGateway, kind: str, content: bytes, size: int = 4_000
) -> tuple[list[dict[str, Any]], int | None]:
    async with opened(gateway) as socket:
        await socket.send(json.dumps({"type": "start", "format": kind}))
        for start in range(0, len(content), 4_000):
            await socket.send(content[start : start + 4_000])
        await socket.send(json.dumps({"type": "end"}))
        return await rest(socket), socket.close_code


@pytest.mark.parametrize("kind", ["webm", "ogg", "mp4"])
def test_a_recording_is_transcribed_while_it_arrives(
    gateway: RunningGateway, beckett: NDArray[np.float32], kind: str
) -> None:
    events, code = asyncio.run(streamed(gateway, kind, recording(kind, beckett)))
    assert code == 1000, events
    assert text(events) == BECKETT


@pytest.mark.parametrize("kind", ["webm", "ogg", "mp4"])
def test_words_come_before_the_recording_ends(gateway: RunningGateway, beckett: NDArray[np.float32], kind: str) -> None:
    content = recording(kind, beckett)

    async def talk() -> dict[str, Any]:
        async with opened(gateway) as socket:
            await socket.send(json.dumps({"type": "start", "format": kind}))
            await socket.send(content[: len(content) // 2])
            async with asyncio.timeout(30):
                event: dict[str, Any] = json.loads(await socket.recv())
            return event

    assert "segment" in asyncio.run(talk())


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("webm", b"no such thing" * 100, "The webm cannot be decoded (InvalidDataError"),
        ("mp3", b"", "format is 'mp3'. Give pcm, webm, ogg, mp4."),
        ("webm", b"", "The webm cannot be decoded"),
    ],
)
def test_what_is_no_recording_says_why(gateway: RunningGateway, kind: str, content: bytes, message: str) -> None:
    events, code = asyncio.run(streamed(gateway, kind, content))
    assert code == 1008
    assert message in events[-1]["error"]["message"]


def forked(gateway: RunningGateway) -> list[int]:
    """Process ids of the recordings that are decoded."""

    def children(pid: int) -> list[int]:
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(each) for task in tasks for each in task.read_text().split()]

    return [each for program in children(gateway.process.pid) for each in children(program)]


def test_a_crash_ends_its_socket_alone(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    content = recording("webm", beckett)

    async def talk() -> tuple[list[dict[str, Any]], int | None, tuple[list[dict[str, Any]], int | None]]:
        async with opened(gateway) as socket:
            await socket.send(json.dumps({"type": "start", "format": "webm"}))
            await socket.send(content[: len(content) // 2])
            await asyncio.to_thread(eventually, lambda: forked(gateway))
            (pid,) = forked(gateway)
            other = asyncio.ensure_future(streamed(gateway, "webm", content))
            await asyncio.sleep(0.2)
            os.kill(pid, signal.SIGSEGV)
            return await rest(socket), socket.close_code, await other

    events, code, other = asyncio.run(talk())
    assert code == 1008
    assert "it ends its decoder" in events[-1]["error"]["message"]
    assert text(other[0]) == BECKETT
    assert eventually(lambda: not forked(gateway))
