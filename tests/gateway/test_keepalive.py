"""A client that pushes audio answers pings late: its pong lies behind what the gateway has not read yet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from asrloop_gateway.protocols import WebSocketProtocol
from uvicorn.server import ServerState


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


def test_messages_are_read_ahead_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asrloop_gateway.protocols._UNHEARD_BYTES", 10_000)

    class Reading(Transport):
        paused = False

        def pause_reading(self) -> None:
            self.paused = True

        def resume_reading(self) -> None:
            self.paused = False

    async def run() -> None:
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(make_nothing, log_config=None)
        protocol, transport = WebSocketProtocol(config, ServerState(), {}, loop), Reading()
        protocol.connection_made(transport)
        paused = []
        for _ in range(4):
            protocol.frames = [bytes(3000)]
            protocol.curr_msg_data_type = "bytes"
            protocol.send_receive_event_to_app()
            paused.append(transport.paused)
        assert paused == [False, False, True, True]
        await protocol.receive()
        assert transport.paused
        await protocol.receive()
        assert not transport.paused
        done = loop.create_task(asyncio.sleep(0))
        await done
        protocol.on_task_complete(done)
        assert WebSocketProtocol._all_unheard == 0

    asyncio.run(run())
