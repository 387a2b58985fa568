"""WS /v1/stream takes what MediaRecorder makes; a recording that ends its decoder ends its socket alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asrloop_gateway import ffmpeg_worker as gateways
from asrloop_gateway.errors import ApiError
from asrloop_gateway.recordings import Decoding, Recordings
from asrloop_gateway.sockets import side_by_side
from numpy.typing import NDArray

from asrloop.audio import ffmpeg_worker as servers
from tests.audio.recordings import FRAGMENTED, RECORDINGS, recorded
from tests.audio.zoo import ZOO
from tests.conftest import BECKETT, eventually
from tests.gateway.conftest import RunningGateway
from tests.gateway.test_streams import QUIET, opened, rest, text

NOISE = np.random.default_rng(28).uniform(-0.5, 0.5, 480_000).astype(np.float32)


def test_server_and_gateway_have_the_same_program() -> None:
    assert Path(servers.__file__).read_bytes() == Path(gateways.__file__).read_bytes()


def recording(kind: str, samples: NDArray[np.float32]) -> bytes:
    samples = np.concatenate([QUIET, samples])
    if kind == "ogg":
        return ZOO["OGG Opus"](samples)
    if kind == "mp4":
        return recorded(samples, "mp4", "aac", piped=True, options=FRAGMENTED)
    return RECORDINGS["live WebM, Opus"](samples)


async def events_of(decoding: Decoding) -> int:
    """The bytes of PCM that come."""
    await decoding.begun()
    return sum([len(pcm) async for pcm in decoding.pcm()])


def program_of(recordings: Recordings) -> int:
    assert recordings._program is not None
    return recordings._program.pid


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_is_damaged_is_known_at_the_end(beckett: NDArray[np.float32]) -> None:
    content = bytearray(recording("webm", beckett))
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)

    async def decode() -> tuple[int, float]:
        async with Recordings().decoding("webm") as decoding:
            feeding = asyncio.ensure_future(decoding.feed(bytes(content)))
            feeding.add_done_callback(lambda _: decoding.end())
            return await events_of(decoding), decoding.missing

    size, missing = asyncio.run(decode())
    assert size > 2 * 48_000
    assert missing > 0.5


@pytest.mark.parametrize("ends", [True, False])
def test_a_process_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    monkeypatch.setattr("asrloop_gateway.recordings.PATIENCE_SECONDS", 0.5)

    async def decode() -> None:
        recordings = Recordings()
        async with recordings.decoding("webm") as decoding:
            await asyncio.to_thread(eventually, lambda: children(program_of(recordings)))
            os.kill(children(program_of(recordings))[0], signal.SIGSTOP)
            decoded = asyncio.ensure_future(decoding.begun())
            await decoding.feed(bytes(100) if ends else bytes(10 << 20))
            decoding.end()
            await side_by_side(decoding.watch(), _nothing(decoded))

    with pytest.raises(ApiError, match=r"The webm was not decoded for 0.5 s. Try again later") as refused:
        asyncio.run(asyncio.wait_for(decode(), 30))
    assert refused.value.status == 503


async def _nothing(waiting: asyncio.Future[int]) -> None:
    await waiting


def test_a_program_that_takes_nothing_stops_no_other_socket(beckett: NDArray[np.float32]) -> None:
    """The gateway would wait for it, and with it all that it serves."""

    async def decode() -> int:
        recordings = Recordings()
        async with recordings.decoding("webm"):
            os.kill(program_of(recordings), signal.SIGSTOP)
        async with AsyncExitStack() as held:
            for _ in range(400):
                decoding = await held.enter_async_context(recordings.decoding("webm"))
            feeding = asyncio.ensure_future(decoding.feed(recording("webm", beckett)))
            feeding.add_done_callback(lambda _: decoding.end())
            return await events_of(decoding)

    assert asyncio.run(asyncio.wait_for(decode(), 60)) > 100_000


def test_a_program_that_was_just_ended_is_started_again(beckett: NDArray[np.float32]) -> None:
    async def decode() -> int:
        recordings = Recordings()
        async with recordings.decoding("webm"):
            os.kill(program_of(recordings), signal.SIGKILL)
        ended = Path(f"/proc/{program_of(recordings)}/stat")
        await asyncio.to_thread(eventually, lambda: " Z " in ended.read_text())
        async with recordings.decoding("webm") as decoding:
            feeding = asyncio.ensure_future(decoding.feed(recording("webm", beckett)))
            feeding.add_done_callback(lambda _: decoding.end())
            return await events_of(decoding)

    assert asyncio.run(asyncio.wait_for(decode(), 60)) > 100_000


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


def test_a_damaged_recording_is_transcribed_and_said_to_be_damaged(
    gateway: RunningGateway, beckett: NDArray[np.float32]
) -> None:
    content = bytearray(recording("webm", np.concatenate([beckett, beckett])))
    start = len(content) * 3 // 5
    content[start : start + len(content) // 5] = bytes(len(content) // 5)
    events, code = asyncio.run(streamed(gateway, "webm", bytes(content)))
    assert code == 1008
    assert "s of the webm could not be decoded: it is damaged" in events[-1]["error"]["message"]
    assert text(events[:-1]).startswith(" ".join(BECKETT.split()[:15]))


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("webm", b"no such thing" * 100, "The webm cannot be decoded (Invalid data found"),
        (
            "webm",
            RECORDINGS["MP4, AAC, fragments"](np.zeros(16_000, np.float32)),
            "The webm cannot be decoded (Invalid data",
        ),
        ("ogg", RECORDINGS["live WebM, Opus"](np.zeros(16_000, np.float32)), "The ogg cannot be decoded ("),
        ("mp4", RECORDINGS["M4A, AAC"](NOISE), "The mp4 cannot be decoded"),
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
    assert eventually(lambda: not forked(gateway)), "those of earlier sockets end"

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
