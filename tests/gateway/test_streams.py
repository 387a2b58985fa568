"""WS /v1/stream of a real gateway before a real server, by a plain WebSocket client."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT, StartServer, words
from tests.gateway.conftest import RunningGateway, StartGateway, pcm, wait_for

QUIET = np.zeros(8_000, np.float32)
KEY = "a key of our own"


def opened(gateway: RunningGateway, **options: Any) -> connect:
    return connect(f"ws://{gateway.address}/v1/stream", open_timeout=30, **options)


async def send(socket: ClientConnection, samples: NDArray[np.float32], rate: int = 16_000) -> None:
    content = pcm(samples)
    for start in range(0, len(content), rate // 5):
        await socket.send(content[start : start + rate // 5])


async def rest(socket: ClientConnection, seconds: float = 60) -> list[dict[str, Any]]:
    """All messages until the socket is closed, well or not."""
    events = []
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(seconds):
            while True:
                events.append(json.loads(await socket.recv()))
    return events


def text(events: list[dict[str, Any]]) -> str:
    return words(" ".join(event["stable"] for event in events if event.get("final")))


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_words_come_while_audio_is_sent(gateway: RunningGateway, beckett: NDArray[np.float32], rate: int) -> None:
    async def talk() -> tuple[list[dict[str, Any]], int | None]:
        async with opened(gateway) as socket:
            if rate != 16_000:
                await socket.send(json.dumps({"type": "start", "sample_rate": rate}))
            await send(socket, soxr.resample(np.concatenate([QUIET, beckett]), 16_000, rate), rate)
            await socket.send(json.dumps({"type": "end"}))
            return await rest(socket), socket.close_code

    events, code = asyncio.run(talk())
    assert code == 1000
    assert text(events) == BECKETT
    for event in events:  # a busy machine may make its first partial in the pause behind some words
        assert set(event) - {"pause"} == {"segment", "stable", "tail", "final", "times"}
    stable = dict.fromkeys((event["segment"] for event in events), "")
    for event in events:
        assert event["stable"].startswith(stable[event["segment"]])
        stable[event["segment"]] = event["stable"]
        assert 0 <= event["times"][0] <= event["times"][1] <= 11
    assert [event["segment"] for event in events if event["final"]] == sorted(stable)


@pytest.mark.parametrize(
    ("messages", "said", "code"),
    [
        (["{"], "Send a JSON object", "invalid_message"),
        (['{"type": "begin"}'], "Unknown message type 'begin'", "invalid_message"),
        ([b"odd"], "A message has 3 bytes", "invalid_audio"),
        (
            ['{"type": "start", "sample_rate": 4000}'],
            "sample_rate is 4000. Give a whole number in 8000..48000",
            "invalid_audio",
        ),
        (['{"type": "start", "sample_rate": null}'], "sample_rate is None", "invalid_audio"),
        (['{"type": "start", "language": 7}'], "language is 7. Give an ISO 639-1 code", "invalid_option"),
        (['{"type": "start", "language": "de"}'], "the served model has en", "invalid_option"),
        ([bytes(5 << 20)], None, None),
    ],
)
def test_what_makes_no_sense_is_refused(
    gateway: RunningGateway, messages: list[str | bytes], said: str | None, code: str | None
) -> None:
    async def talk() -> tuple[list[dict[str, Any]], int | None]:
        async with opened(gateway) as socket:
            with contextlib.suppress(ConnectionClosed):
                for message in messages:
                    await socket.send(message)
            return await rest(socket), socket.close_code

    events, close_code = asyncio.run(talk())
    if said is None:
        assert close_code == 1009
        return
    assert close_code == 1008
    assert events[-1]["error"]["code"] == code
    assert said in events[-1]["error"]["message"]


def test_silence_that_is_sent_ends_without_words_and_nothing_sent_ends_too(
    start_gateway: StartGateway, server: TritonServer
) -> None:
    async def silent(gateway: RunningGateway) -> list[dict[str, Any]]:
        async with opened(gateway) as socket:
            await send(socket, np.zeros(32_000, np.float32))
            await socket.send('{"type": "end"}')
            return await rest(socket)

    async def idle(gateway: RunningGateway) -> tuple[list[dict[str, Any]], int | None]:
        async with opened(gateway) as socket:
            return await rest(socket), socket.close_code

    with start_gateway(server.grpc_endpoint, idle_seconds="1") as impatient:
        assert text(asyncio.run(silent(impatient))) == ""
        events, code = asyncio.run(idle(impatient))
    assert (events[-1]["error"]["code"], code) == ("too_slow", 1008)


def test_browsers_give_their_key_as_a_subprotocol_and_pages_of_others_are_refused(
    start_gateway: StartGateway, server: TritonServer, beckett: NDArray[np.float32]
) -> None:
    async def talk(gateway: RunningGateway, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
        async with opened(gateway, **options) as socket:
            with contextlib.suppress(ConnectionClosed):
                await send(socket, beckett)
                await socket.send('{"type": "end"}')
            return socket, await rest(socket)

    key = "a-key-of-our-own"
    with start_gateway(server.grpc_endpoint, keys=key) as guarded:
        socket, events = asyncio.run(talk(guarded, subprotocols=["asrloop", f"openai-insecure-api-key.{key}"]))
        assert socket.subprotocol == "asrloop"
        assert text(events) == BECKETT
        for options, code in (
            ({}, "missing_api_key"),
            ({"subprotocols": ["asrloop", "openai-insecure-api-key.wrong"]}, "invalid_api_key"),
            (
                {"additional_headers": {"Authorization": f"Bearer {key}"}, "origin": "https://evil.example"},
                "wrong_origin",
            ),
        ):
            socket, events = asyncio.run(talk(guarded, **options))
            assert (events[-1]["error"]["code"], socket.close_code) == (code, 1008)
            assert not text(events)


def test_sockets_of_one_caller_are_counted(start_gateway: StartGateway, server: TritonServer) -> None:
    async def talk(gateway: RunningGateway) -> dict[str, Any]:
        async with opened(gateway) as first, opened(gateway), opened(gateway) as third:
            refused = (await rest(third))[-1]
            await first.close()
            async with opened(gateway) as fourth:
                await send(fourth, QUIET)
                await fourth.send('{"type": "end"}')
                assert all("error" not in event for event in await rest(fourth))
            return refused

    with start_gateway(server.grpc_endpoint, sockets_per_caller="2") as small:
        assert asyncio.run(talk(small))["error"]["code"] == "too_many_sockets"


@pytest.mark.slow
def test_a_recording_that_is_sent_at_once_takes_its_time_and_comes_out_whole(
    gateway: RunningGateway, beckett: NDArray[np.float32]
) -> None:
    content = pcm(np.tile(np.pad(beckett, (0, 24_000)), 40))

    async def push(socket: ClientConnection, seconds: float) -> None:
        size = 2 * round(16_000 * seconds)
        for at in range(0, len(content), size):
            await socket.send(content[at : at + size])
        await socket.send('{"type": "end"}')

    async def talk(seconds: float) -> str:
        async with opened(gateway, ping_timeout=None) as socket:
            pushing = asyncio.create_task(push(socket, seconds))
            events = await rest(socket, 300)
            await pushing
            assert socket.close_code == 1000
            return text(events)

    said = {seconds: asyncio.run(talk(seconds)) for seconds in (0.1, 10, 100)}
    assert len(said[0.1].split()) > 0.95 * 12 * 40
    assert said == dict.fromkeys(said, said[0.1])


@pytest.mark.slow
def test_two_hundred_sockets_are_open_at_once(
    start_server: StartServer, start_gateway: StartGateway, model_repository: Any, beckett: NDArray[np.float32]
) -> None:
    count = 200

    async def talk(gateway: RunningGateway) -> list[str]:
        everybody_there = asyncio.Barrier(count)

        async def one() -> str:
            async with opened(gateway, ping_timeout=None) as socket:
                await send(socket, beckett[:40_000])
                async with asyncio.timeout(120):
                    await everybody_there.wait()
                await socket.send('{"type": "end"}')
                return text(await rest(socket, 240))

        return await asyncio.gather(*(one() for _ in range(count)))

    with (
        start_server(model_repository, ASRLOOP_LIVE__STREAMS=str(count)) as server,
        start_gateway(server.grpc_endpoint, sockets_per_caller=str(count), idle_seconds="120") as gateway,
    ):
        heard = asyncio.run(talk(gateway))
        wait_for(lambda: running_sockets(gateway) == 0)
    assert len(heard) == count
    assert all(text.startswith("ever tried") for text in heard)


def running_sockets(gateway: RunningGateway) -> float:
    return gateway.metric('asrloop_gateway_running{route="stream"}')
