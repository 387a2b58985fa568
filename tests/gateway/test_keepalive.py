"""A client that pushes audio answers pings late: its pong lies behind what the gateway has not read yet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from asrloop_gateway.websocket_protocol import WebSocketProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState
from websockets.protocol import State

from tests.gateway.test_hostile import BINARY, TEXT, UPGRADE, frame


async def make_nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that does nothing."""


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: Any) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.mark.parametrize(("reads", "sends", "stays"), [(True, False, False), (False, False, True), (True, True, True)])
def test_a_late_pong_closes_a_socket_only_where_nothing_else_comes(reads: bool, sends: bool, stays: bool) -> None:
    async def run() -> bool:
        protocol = WebSocketProtocol(
            uvicorn.Config(make_nothing, log_config=None), ServerState(), {}, asyncio.get_running_loop()
        )
        transport = Transport()
        protocol.connection_made(transport)
        protocol.ping_sent_at = protocol.loop.time() - 20
        protocol.read_paused = not reads
        protocol._received_at = protocol.ping_sent_at + (1 if sends else -1)
        protocol.keepalive_timeout()
        protocol.stop_keepalive()
        return not transport.closed

    assert asyncio.run(run()) == stays


class Reading(Transport):
    paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def connected() -> tuple[WebSocketProtocol, Reading]:
    """A socket after its handshake."""
    config = uvicorn.Config(make_nothing, log_config=None)
    protocol, transport = WebSocketProtocol(config, ServerState(), {}, asyncio.get_running_loop()), Reading()
    protocol.connection_made(transport)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE + b"\r\n")
    protocol.conn.state, protocol.handshake_complete = State.OPEN, True
    return protocol, transport


async def ended(protocol: WebSocketProtocol) -> None:
    """The application has ended."""
    done = asyncio.ensure_future(asyncio.sleep(0))
    await done
    protocol.on_task_complete(done)


def test_messages_are_read_ahead_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asrloop_gateway.websocket_protocol._HELD_BYTES", 10_000)

    async def run() -> None:
        protocol, transport = connected()
        await protocol.receive()  # that it is connected
        paused = []
        for _ in range(4):
            protocol.data_received(frame(BINARY, bytes(3000)))
            paused.append(transport.paused)
        assert paused == [False, False, True, True]
        for _ in range(2):
            await protocol.receive()
            assert transport.paused
        await protocol.receive()
        assert not transport.paused
        await ended(protocol)
        assert WebSocketProtocol._all_held == 0

    asyncio.run(run())


def test_sockets_that_hold_much_make_each_other_wait_but_live_audio_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asrloop_gateway.websocket_protocol._ALL_HELD_BYTES", 100_000)
    monkeypatch.setattr("asrloop_gateway.websocket_protocol._ALWAYS_BYTES", 8_000)

    async def run() -> None:
        (large, reading), (partial, other), (live, third) = connected(), connected(), connected()
        for each in (large, partial, live):
            await each.receive()
        partial.data_received(frame(BINARY, bytes(60_000))[:30_000])
        assert not other.paused
        for _ in range(2):
            large.data_received(frame(BINARY, bytes(40_000)))
        live.data_received(frame(BINARY, bytes(3_200)))
        partial.data_received(b"")
        assert (reading.paused, other.paused, third.paused) == (True, True, False)
        await large.receive()
        await large.receive()  # which is done with the first
        assert not other.paused, "what waits for room gets it when another one is done"
        for each in (large, partial, live):
            await ended(each)
            each.connection_lost(None)
        assert WebSocketProtocol._all_held == 0
        assert not WebSocketProtocol._waiting

    asyncio.run(run())


def test_text_counts_as_it_is_held() -> None:
    async def run() -> None:
        protocol, _ = connected()
        await protocol.receive()
        protocol.data_received(frame(TEXT, "\U0001f600".encode() + bytes(10_000)))
        assert protocol._held > 40_000
        await ended(protocol)
        assert WebSocketProtocol._all_held == 0

    asyncio.run(run())


def test_what_comes_after_the_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asrloop_gateway.websocket_protocol._ALWAYS_BYTES", 8_000)

    async def run() -> None:
        protocol, transport = connected()
        await ended(protocol)
        for _ in range(3):
            protocol.data_received(frame(BINARY, bytes(60_000))[:30_000])
            assert WebSocketProtocol._all_held < 40_000
        assert not transport.paused
        protocol.connection_lost(None)
        assert WebSocketProtocol._all_held == 0

    asyncio.run(run())


def test_an_answer_after_the_protocol_has_closed_is_no_failure_of_ours() -> None:
    async def run() -> None:
        protocol, _ = connected()
        protocol.data_received(b"\xff\xff\xff\xff")  # no frame
        with pytest.raises(ClientDisconnected):
            await protocol.send({"type": "websocket.send", "text": "too late"})
        await ended(protocol)

    asyncio.run(run())
