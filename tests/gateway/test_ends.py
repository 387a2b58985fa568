"""The gateway stops, a server dies, callers leave: answers or clear errors for everyone, and nothing stays behind."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from asrloop_client import Progress, Transcript
from asrloop_gateway.events import EventResponse, OnProgress, Tells, events_of
from asrloop_gateway.gateway import Gateway, Outcome
from asrloop_gateway.settings import Settings
from numpy.typing import NDArray

from asrloop.tritonserver.process import TritonServer
from tests.client.stub import Stub
from tests.conftest import BECKETT, eventually, words
from tests.faults.harness import Serving, Speech
from tests.gateway.conftest import RunningGateway, StartGateway, wait_for
from tests.gateway.test_limits import KIND, PATH, Answer, form, post, raw
from tests.gateway.test_streams import opened, rest, send, text
from tests.model_repository.test_contract import metric, settled
from tests.ports import free_ports


def test_stopping_lets_uploads_have_their_answer_and_streams_their_finals(
    start_gateway: StartGateway, server: TritonServer, beckett: NDArray[np.float32], long_file: bytes
) -> None:
    async def talk(gateway: RunningGateway) -> tuple[list[dict[str, Any]], int | None]:
        async with opened(gateway) as socket:
            await send(socket, beckett)
            first = json.loads(await socket.recv())
            gateway.signal()
            return [first, *await rest(socket)], socket.close_code

    with start_gateway(server.grpc_endpoint) as gateway, ThreadPoolExecutor(2) as pool:
        whole = pool.submit(post, gateway, form(long_file))
        told = pool.submit(post, gateway, form(long_file, stream="true"))
        wait_for(lambda: gateway.metric('asrloop_gateway_running{route="transcriptions"}') == 2)
        events, code = asyncio.run(talk(gateway))
        assert code == 1001
        assert text(events) == BECKETT
        assert whole.result().text.count("ever tried") == 20
        assert words(told.result().content.decode().splitlines()[-2]).count("ever tried") == 20
        assert gateway.process.wait(60) == 0


def test_what_comes_while_it_stops_is_told_so(
    start_gateway: StartGateway, server: TritonServer, beckett_file: bytes, long_file: bytes
) -> None:
    with start_gateway(server.grpc_endpoint) as gateway, ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, gateway, form(long_file))
        wait_for(lambda: gateway.metric('asrloop_gateway_running{route="transcriptions"}') == 1)
        gateway.signal()
        late = post(gateway, form(beckett_file))
        assert (late.status, late.code) == (503, "closing")
        assert "retry-after" in late.headers
        connection = http.client.HTTPConnection(gateway.address, timeout=30)
        connection.request("GET", "/health")
        health = connection.getresponse()
        assert (health.status, json.loads(health.read())["status"]) == (503, "closing")
        connection.close()
        assert running.result().status == 200


def test_a_second_signal_ends_it_at_once(start_gateway: StartGateway, beckett_file: bytes) -> None:
    with start_gateway("127.0.0.1:1", server_seconds="300") as gateway, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, gateway, form(beckett_file))
        wait_for(lambda: gateway.metric('asrloop_gateway_running{route="transcriptions"}') == 1)
        gateway.signal()
        wait_for(lambda: post(gateway, form(beckett_file)).code == "closing")
        gateway.signal()
        assert gateway.process.wait(60) == 0
        assert waiting.exception() or waiting.result().status >= 500


def test_what_outlasts_the_time_to_stop_is_told_so(
    start_gateway: StartGateway, tmp_path: Path, beckett_file: bytes
) -> None:
    stub = Stub(free_ports(1)[0], tmp_path / "log").start()
    try:
        with (
            start_gateway(stub.address, drain_seconds="0.5", server_seconds="60") as gateway,
            ThreadPoolExecutor(3) as pool,
        ):
            wait_for(lambda: gateway_health(gateway) == 200)
            stub.stop()
            asked = [pool.submit(post, gateway, form(beckett_file)), pool.submit(half_an_upload, gateway)]
            asked.append(pool.submit(post, gateway, form(beckett_file, stream="true")))
            wait_for(lambda: gateway.metric('asrloop_gateway_running{route="transcriptions"}') == 3)
            gateway.signal()
            answers = [each.result() for each in asked]
            assert gateway.process.wait(60) == 0
    finally:
        stub.kill()
    assert [(answer.status, answer.code) for answer in answers] == [(503, "closing")] * 3
    said = [line for line in gateway.log if "closing" in line]
    assert len(said) == 1, gateway.log
    assert not [line for line in gateway.log if "Traceback" in line], gateway.log


def gateway_health(gateway: RunningGateway) -> int:
    connection = http.client.HTTPConnection(gateway.address, timeout=30)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


def half_an_upload(gateway: RunningGateway) -> Answer:
    with raw(gateway) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + b"--cut-here\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        return Answer(response)


def test_events_end_with_an_error_when_the_gateway_ends() -> None:
    async def run() -> list[str]:
        gateway = Gateway(Settings())
        begun = asyncio.Event()

        async def transcribe(on_progress: OnProgress) -> Transcript:
            on_progress(Progress("a", 1.0, 2.0, "some words"))
            begun.set()
            await asyncio.sleep(60)
            raise AssertionError("it was not ended")

        events = events_of(lambda tell: gateway.until_over(transcribe(tell)), Tells(progress=True))
        sent: list[Any] = []
        response = EventResponse(await anext(events), events, Outcome(200), AsyncExitStack())

        async def send(message: Any) -> None:
            sent.append(message.get("body", b"").decode())
            if "delta" in sent[-1]:
                gateway.end()

        await response({"type": "http", "asgi": {"spec_version": "2.4"}}, asyncio.Event().wait, send)
        await gateway.client.close()
        return sent

    sent = asyncio.run(run())
    assert "some words" in sent[2]
    assert sent[-2].startswith("event: error\ndata: ")
    assert '"code": "closing"' in sent[-2]


def test_who_leaves_ends_the_servers_work(gateway: RunningGateway, server: TritonServer, long_file: bytes) -> None:
    def cancelled() -> float:
        return metric(server, 'asrloop_requests_total{outcome="cancelled"}')

    for stream in ("false", "true"):
        before = settled(cancelled)
        body = form(long_file, stream=stream)
        connection = http.client.HTTPConnection(gateway.address, timeout=30)
        connection.request("POST", PATH, body, {"Content-Type": KIND})
        wait_for(lambda: metric(server, "asrloop_slots_in_use") > 0)
        connection.close()
        assert eventually(lambda before=before: cancelled() > before), "the server goes on for nobody"  # type: ignore[misc]
        assert eventually(lambda: metric(server, "asrloop_slots_in_use") == 0)
    wait_for(lambda: gateway.metric('asrloop_gateway_running{route="transcriptions"}') == 0)
    assert gateway.metric('asrloop_gateway_requests_total{route="transcriptions",status="499"}') >= 2


def test_a_request_under_way_ends_soon_after_the_last_server_died(
    start_gateway: StartGateway, tmp_path: Path, beckett_file: bytes
) -> None:
    stub = Stub(free_ports(1)[0], tmp_path / "log").start()
    try:
        with start_gateway(stub.address, server_seconds="1", transcription_seconds="30") as gateway:
            assert post(gateway, form(beckett_file)).status == 200
            stub.stop()
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(post, gateway, form(beckett_file))
                wait_for(lambda: gateway.metric('asrloop_gateway_running{route="transcriptions"}') == 1)
                stub.kill()
                answer = running.result()
    finally:
        stub.kill()
    assert (answer.status, answer.code) == (503, "unavailable")
    assert "retry-after" in answer.headers


@pytest.mark.slow
def test_a_killed_server_costs_retries_and_no_words(
    start_gateway: StartGateway, tmp_path: Path, beckett: NDArray[np.float32], beckett_file: bytes
) -> None:
    serving, speech = Serving(tmp_path / "serve.log"), Speech(beckett, beckett_file)
    over, outcomes, wrong = threading.Event(), Counter[str](), list[str]()

    def ask(gateway: RunningGateway) -> None:
        while not over.is_set():
            answer = post(gateway, form(beckett_file))
            outcomes[str(answer.status) if answer.status == 200 else answer.code] += 1
            if answer.status == 200 and answer.text != BECKETT:
                wrong.append(answer.text)

    async def live(gateway: RunningGateway) -> list[dict[str, Any]]:
        async with opened(gateway) as socket:
            await send(socket, beckett[: beckett.size // 2])
            os.kill(serving.server, signal.SIGKILL)
            await send(socket, beckett[beckett.size // 2 :])
            await socket.send('{"type": "end"}')
            return await rest(socket)

    try:
        serving.wait(speech)
        # A busy machine starts a server in more than the usual time.
        with start_gateway(serving.address, server_seconds="60") as gateway, ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, gateway) for _ in range(8)]
            try:
                wait_for(lambda: outcomes["200"] > 8)
                events = asyncio.run(live(gateway))
                after = outcomes["200"]
                wait_for(lambda: outcomes["200"] > after + 8, 60)
            finally:
                over.set()
                for each in asking:
                    each.result()
    finally:
        serving.stop()
    assert text(events) == BECKETT, events
    assert not wrong
    assert set(outcomes) <= {"200", "unavailable"}, outcomes


@pytest.mark.slow
def test_memory_holds_what_is_transcribed_not_what_waits(
    start_gateway: StartGateway, server: TritonServer, beckett: NDArray[np.float32]
) -> None:
    buffer = io.BytesIO()
    padded = np.pad(beckett, (0, 19 * beckett.size))  # mostly silence, which is soon transcribed
    soundfile.write(buffer, padded, 16_000, format="WAV", subtype="PCM_24")
    large = buffer.getvalue()  # 10 MB
    with start_gateway(server.grpc_endpoint, memory_megabytes="40") as gateway:
        post(gateway, form(large))
        before, peak, over = gateway.memory, 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not over.is_set():
                peak = max(peak, gateway.memory)
                time.sleep(0.02)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            with ThreadPoolExecutor(10) as pool:
                answers: list[Answer] = list(pool.map(lambda _: post(gateway, form(large)), range(10)))
        finally:
            over.set()
            watching.join()
    assert {answer.status for answer in answers} == {200}
    # All of them have 100 MB, 300 MB while they are sent.
    assert peak - before < 60e6
