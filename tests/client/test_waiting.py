"""What used to fail and now waits: servers killed, hung, full or restarting, over real sockets."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from asrloop_client import (
    AsrClient,
    AsyncAsrClient,
    ClientClosed,
    DeadlineExceeded,
    InvalidAudio,
    InvalidConfig,
    ModelNotReady,
    Overloaded,
    PoolConfig,
    ServerFailure,
    ServerGone,
)
from asrloop_client.channel import dialer
from asrloop_client.endpoints import Endpoint
from asrloop_client.settings import Settings
from asrloop_client.wire import Request
from opentelemetry import propagate, trace

from tests.client.stub import Stub
from tests.conftest import eventually

Connect = Callable[..., Any]
MakeStub = Callable[..., Stub]
ONES = np.ones(160, np.float32)
PROBE = 2
"""A probe asks for both models."""


class Load:
    """Callers that transcribe without a pause until stopped."""

    def __init__(self, client: Any, count: int, **options: Any) -> None:
        self.done, self.errors, self._over = 0, list[BaseException](), threading.Event()
        self._client, self._options = client, options
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._client.transcribe(ONES, **self._options)
                self.done += 1
            except BaseException as error:
                self.errors.append(error)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("pooling", [True, False])
def test_a_server_that_is_down_for_a_moment_costs_no_call(connect: Connect, make_stub: MakeStub, pooling: bool) -> None:
    stub = make_stub()
    client = connect(stub.address, pooling=pooling)
    load = Load(client, 8)
    time.sleep(0.2)
    stub.kill()
    time.sleep(0.66)
    stub.start()
    before = load.done
    assert eventually(lambda: load.done > before + 20)
    load.stop()
    assert load.errors == []
    assert client.stats()[0].live


@pytest.mark.parametrize("stays", [None, "hung", "dead"])
def test_a_call_ends_when_no_server_is_in_for_the_server_timeout(
    connect: Connect, make_stub: MakeStub, stays: str | None
) -> None:
    stub = make_stub()
    # One that starts again is waited for, also on a busy machine.
    client = connect(stub.address, server_timeout=1.0 if stays else 15.0, probe_timeout=1.0)
    client.transcribe(ONES)
    stub.stop()
    call, began = client.submit(ONES, timeout=20), time.monotonic()
    if stays != "hung":
        stub.kill()
    if stays is None:
        stub.start()
        assert call.result().text
        return
    with pytest.raises(ServerGone):
        call.result()
    assert 1.0 <= time.monotonic() - began < 19, "not by its own time limit"


def test_a_call_leaves_a_hung_server_for_one_that_answers(connect: Connect, make_stub: MakeStub) -> None:
    hung, good = make_stub(), make_stub()
    client = connect([hung.address, good.address], probe_timeout=0.5)
    assert eventually(lambda: {client.transcribe(ONES).endpoint for _ in range(4)} == {hung.address, good.address})
    hung.stop()
    calls = [client.submit(ONES, timeout=20) for _ in range(4)]
    assert {each.result().endpoint for each in calls} == {good.address}
    assert eventually(lambda: not client.stats()[0].live)
    hung.go_on()
    assert eventually(lambda: client.stats()[0].live)


def test_a_long_request_is_not_mistaken_for_a_hung_server(connect: Connect, make_stub: MakeStub) -> None:
    stub = make_stub()
    client = connect(stub.address)
    assert client.transcribe(ONES, timeout=8, parameters={"sleep_ms": 3000}).attempts == 1
    assert stub.seen()["probe"] > PROBE, "the probe was not asked"


def test_fail_fast_fails_at_once(connect: Connect, make_stub: MakeStub) -> None:
    stub = make_stub()
    client = connect(stub.address, fail_fast=True)
    stub.kill()
    with pytest.raises(ServerGone):
        client.transcribe(ONES)
    with pytest.raises(ServerGone):
        client.transcribe(ONES)


@pytest.mark.parametrize(
    ("status", "error"),
    [("INTERNAL", ServerFailure), ("NOT_FOUND", ModelNotReady), ("INVALID_ARGUMENT", InvalidAudio)],
)
def test_a_refused_request_is_sent_once_and_hurts_nobody_else(
    connect: Connect, make_stub: MakeStub, status: str, error: type[Exception]
) -> None:
    stub = make_stub()
    client = connect(stub.address)
    for _ in range(6):
        with pytest.raises(error):
            client.transcribe(ONES, parameters={"status": status})
        with pytest.raises(DeadlineExceeded):
            client.transcribe(ONES, timeout=0)
    assert client.transcribe(ONES).text == "hello there"
    assert stub.seen()["infer"] == 7
    assert client.stats()[0].live


def test_a_server_whose_model_process_hangs_costs_no_call(connect: Connect, make_stub: MakeStub) -> None:
    client = connect([make_stub().address, make_stub().address])
    message = "in ensemble 'asr_file', Stub process 'audio_frontend_0_0' is not healthy."
    found = client.transcribe(b"RIFF", parameters={"status": "INTERNAL", "message": message, "times": 1})
    assert (found.text, found.attempts) == ("hello there", 3)


def test_a_deadline_from_the_server_is_final(connect: Connect, make_stub: MakeStub) -> None:
    stub = make_stub()
    with pytest.raises(DeadlineExceeded):
        connect(stub.address).transcribe(ONES, parameters={"status": "UNAVAILABLE", "message": "[deadline] late"})
    assert stub.seen()["infer"] == 1


def test_a_closing_server_is_left_alone_until_its_probe_answers(connect: Connect, make_stub: MakeStub) -> None:
    closing, good = make_stub(closing=True), make_stub()
    client = connect([closing.address, good.address], fail_fast=True)
    found = [client.transcribe(ONES) for _ in range(10)]
    assert {each.endpoint for each in found} == {good.address}
    assert closing.seen()["infer"] == 1, "it got calls though it said that it closes"
    assert sorted(each.attempts for each in found) == [1] * 9 + [2]
    assert not client.stats()[0].live


@pytest.mark.parametrize("back", [True, False])
def test_an_answer_from_before_a_failure_does_not_bring_a_server_back(back: bool) -> None:
    async def outcome() -> bool:
        under_way, failed = asyncio.Event(), asyncio.Event()

        class Slow(Endpoint):
            """Is asked, fails a call, says that it is ready; asked anew, it answers as the test wants."""

            async def is_loaded(self, model: str) -> bool | None:
                if not failed.is_set():
                    under_way.set()
                    await failed.wait()
                elif not back:
                    raise ServerGone("the server is shutting down")
                return True

        settings = Settings(file_model="asr_ensemble")
        endpoint = Slow("127.0.0.1:1", dialer(None), settings, lambda: None)
        probe = asyncio.create_task(endpoint.probe())
        await under_way.wait()
        endpoint.failed(ServerGone("[closing] the engine closes"), time.monotonic())
        failed.set()
        await probe
        await endpoint.close()
        return endpoint.is_in

    assert asyncio.run(outcome()) is back


def test_the_timeout_of_each_attempt_is_what_is_left(connect: Connect, make_stub: MakeStub) -> None:
    stub = make_stub()
    parameters = {"status": "UNAVAILABLE", "message": "[overloaded] full", "times": 3}
    connect(stub.address).transcribe(ONES, timeout=10, parameters=parameters)
    given = stub.timeouts()
    assert len(given) == 4
    assert given == sorted(given, reverse=True)
    assert given[-1] < given[0] < 10_000_000


def test_bulk_work_waits_for_channels_and_places(connect: Connect, make_stub: MakeStub) -> None:
    stub = make_stub(places=4)
    client = connect(stub.address, pool=PoolConfig(min_channels=2, max_channels=10))
    texts = client.transcribe_many([ONES] * 64, concurrency=64, parameters={"sleep_ms": 50})
    assert [each.text for each in texts] == ["hello there"] * 64
    assert stub.seen()["infer"] < 3 * 64, "the audio was sent again and again"


def test_fail_fast_says_overloaded_at_once(connect: Connect, make_stub: MakeStub) -> None:
    with pytest.raises(Overloaded):
        connect(make_stub().address, fail_fast=True).transcribe(
            ONES, parameters={"status": "UNAVAILABLE", "message": "[overloaded] full"}
        )


def test_a_passed_deadline_is_followed_by_a_cancel(connect: Connect, make_stub: MakeStub) -> None:
    stub = make_stub()
    client = connect(stub.address)
    with pytest.raises(DeadlineExceeded):
        client.transcribe(ONES, timeout=1.5, parameters={"sleep_ms": 30_000})
    assert eventually(lambda: any(each.startswith("cancel=") for each in stub.seen()))
    (key,) = (each[4:] for each in stub.seen() if each.startswith("key="))
    assert len(key) >= 16
    assert stub.seen()[f"cancel={key}"] == 1


def test_loading_the_file_counts(connect: Connect, make_stub: MakeStub) -> None:
    class Slow:
        def read(self) -> bytes:
            time.sleep(1)
            return b"RIFF"

    stub = make_stub()
    with pytest.raises(DeadlineExceeded):
        connect(stub.address).transcribe(Slow(), timeout=0.2)
    assert stub.seen()["infer"] == 0


def test_a_deadline_while_the_message_is_made_gives_the_channel_back(
    connect: Connect, make_stub: MakeStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Request.serialised
    monkeypatch.setattr(Request, "serialised", lambda self, timeout: time.sleep(1) or real(self, timeout))
    client = connect(make_stub().address, pool=PoolConfig(min_channels=1, max_channels=1))
    large = np.ones(3 << 20, np.float32)
    with pytest.raises(DeadlineExceeded):
        client.transcribe(large, timeout=0.3)
    assert client.transcribe(large, timeout=20).text == "hello there"


def test_probes_are_rare_and_take_no_channel(connect: Connect, make_stub: MakeStub) -> None:
    stub = make_stub()
    client = connect(stub.address, pool=PoolConfig(min_channels=1, max_channels=1))
    time.sleep(2.5)
    assert stub.seen()["probe"] == PROBE
    assert client.stats()[0].pool.created == 1


def test_idle_channels_are_replaced(connect: Connect, make_stub: MakeStub) -> None:
    client = connect(make_stub().address, pool=PoolConfig(min_channels=3, max_channels=3, idle_timeout=0.2))
    assert eventually(lambda: client.stats()[0].pool.evicted >= 3 and client.stats()[0].pool.open == 3)


def test_a_lazy_async_client_outlives_a_failed_connect_and_works_in_a_second_loop(make_stub: MakeStub) -> None:
    stub = make_stub()
    stub.kill()
    client = AsyncAsrClient(stub.address)
    threading.Timer(0.5, stub.start).start()
    for _ in range(2):
        assert asyncio.run(client.transcribe(ONES)).text == "hello there"
    asyncio.run(client.close())
    with pytest.raises(ClientClosed):
        asyncio.run(client.transcribe(ONES))


def test_wait_until_ready(make_stub: MakeStub) -> None:
    stub = make_stub()
    stub.kill()
    with AsrClient(stub.address, prewarm=False) as client:
        with pytest.raises(DeadlineExceeded):
            client.wait_until_ready(0.2)
        threading.Timer(0.3, stub.start).start()
        client.wait_until_ready(10)
        assert client.transcribe(ONES).text == "hello there"


def test_as_completed_gives_the_input_beside_the_result(make_stub: MakeStub) -> None:
    seen: list[tuple[int, int | None]] = []
    with AsrClient(make_stub().address) as client:
        audios = [ONES, {}, b"RIFF", "missing.wav"]
        outcomes = list(client.as_completed(audios, progress=lambda done, total: seen.append((done, total))))
        assert sorted(each.index for each in outcomes) == [0, 1, 2, 3]
        assert all(each.audio is audios[each.index] for each in outcomes)
        assert {each.index for each in outcomes if each.error} == {1, 3}
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
        with pytest.raises(InvalidConfig, match="concurrency is 0"):
            client.transcribe_many([ONES], concurrency=0)


def test_headers_of_a_call_and_the_servers_variable(make_stub: MakeStub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = make_stub()
    monkeypatch.setenv("ASR_CLIENT_SERVERS", stub.address)
    with AsrClient() as client:
        client.transcribe(ONES, headers={"x-test": "mine"})
    assert stub.seen()["header=mine"] == 1


def test_headers_are_made_for_each_call_and_what_fails_in_it_is_named(make_stub: MakeStub) -> None:
    made = iter(range(100))
    stub = make_stub()
    with AsrClient(stub.address, headers=lambda: {"x-test": f"number{next(made)}"}) as client:
        client.transcribe(ONES)
        client.transcribe(ONES)
    assert len([each for each in stub.seen() if each.startswith("header=number")]) == 2
    with (
        AsrClient(stub.address, headers=lambda: {"x-test": str(1 // 0)}) as client,
        pytest.raises(InvalidConfig, match="headers could not be made: ZeroDivisionError"),
    ):
        client.transcribe(ONES)


def test_the_trace_of_the_caller_goes_along_as_the_readme_says(connect: Connect, make_stub: MakeStub) -> None:
    def headers() -> dict[str, str]:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    stub = make_stub()
    client = connect(stub.address, headers=headers)
    for number in (1, 2):
        span = trace.NonRecordingSpan(trace.SpanContext(number, number, False, trace.TraceFlags(1)))
        with trace.use_span(span):
            client.transcribe(ONES)
    seen = [each for each in stub.seen() if each.startswith("header=")]
    assert seen == [f"header=00-{number:032x}-{number:016x}-01" for number in (1, 2)]


def test_closing_ends_bulk_work_that_has_not_begun(connect: Connect, make_stub: MakeStub) -> None:
    stub, found = make_stub(), list[Any]()
    client = connect(stub.address)
    options = {"concurrency": 2, "return_errors": True, "parameters": {"sleep_ms": 5000}}
    thread = threading.Thread(target=lambda: found.extend(client.transcribe_many([ONES] * 8, **options)), daemon=True)
    thread.start()
    assert eventually(lambda: stub.seen()["infer"] == 2)
    client.close()
    thread.join(20)
    assert [type(each) for each in found] == [ClientClosed] * 8
    assert stub.seen()["infer"] == 2


@pytest.mark.slow
def test_two_servers_hurt_in_turn_cost_no_call(make_stub: MakeStub) -> None:
    """Short and with servers that do no work; `make test-chaos` hurts real ones."""
    stubs = [make_stub(), make_stub()]
    with AsrClient([each.address for each in stubs], timeout=30) as client:
        load = Load(client, 16, parameters={"sleep_ms": 20})
        until, turn = time.monotonic() + 10, 0
        while time.monotonic() < until:
            hurt = stubs[turn % 2]
            if turn % 4 < 2:
                hurt.signal(signal.SIGKILL)
                time.sleep(0.5)
                hurt.kill()
                hurt.start()
            else:
                hurt.stop()
                time.sleep(5)
                hurt.go_on()
            turn += 1
            # The other is hurt only when this one serves again: with both gone nobody could answer.
            assert eventually(lambda: all(each.live for each in client.stats()))
        load.stop()
    assert load.errors == []
    assert load.done > 100
