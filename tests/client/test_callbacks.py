"""Functions of the caller that call the client, never return, or end the interpreter: no call hangs, and others go on."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from asrloop_client import AsrClient, AsrError, AsyncAsrClient, Cancelled, DeadlineExceeded, Progress, UnreadableFile

from tests.client.stand_in import StandIn
from tests.client.stub import Stub
from tests.conftest import eventually

Connect = Callable[..., Any]
MakeStub = Callable[..., Stub]
ONES = np.ones(160, np.float32)
SLOW = {"reports": 1, "sleep_ms": 1000}
"""Goes on for so long behind the first report that a second one can come."""
ENDS = [SystemExit, GeneratorExit, StopIteration, AsrError]


def result(call: Any) -> Any:
    """What a call gives, which may take long, but has an end."""
    return call.result(60)


def test_on_progress_may_call_the_client(connect: Connect, make_stub: MakeStub) -> None:
    client, said = connect(make_stub().address), list[str]()

    def ask(progress: Progress) -> None:
        said.append(client.transcribe(ONES, timeout=30).text)
        assert client.health()[0].live

    assert result(client.submit(ONES, timeout=60, parameters=SLOW, on_progress=ask)).text == "hello there"
    assert set(said) == {"hello there"}


@pytest.mark.parametrize("kind", ENDS)
def test_on_progress_that_raises_is_logged_and_called_no_more(
    connect: Connect, make_stub: MakeStub, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    client, called = connect(make_stub().address), list[Progress]()

    def fail(progress: Progress) -> None:
        called.append(progress)
        raise kind("as asked")

    with caplog.at_level(logging.ERROR, "asrloop_client"):
        assert result(client.submit(ONES, timeout=60, parameters=SLOW, on_progress=fail)).text == "hello there"
    assert len(called) == 1
    assert [record.message for record in caplog.records] == ["on_progress failed, and is not called again"]
    assert client.transcribe(ONES).text == "hello there"


def test_on_progress_that_never_returns_holds_up_nothing(connect: Connect, make_stub: MakeStub) -> None:
    client, over, called = connect(make_stub().address), threading.Event(), list[Progress]()

    def block(progress: Progress) -> None:
        called.append(progress)
        over.wait(120)

    try:
        calls = [client.submit(ONES, timeout=60, parameters=SLOW, on_progress=block) for _ in range(40)]
        assert eventually(lambda: len(called) == len(calls))
        began = time.monotonic()
        assert client.transcribe(b"RIFF").text == "hello there"
        assert {result(each).text for each in calls} == {"hello there"}
        assert time.monotonic() - began < 60, "it waited for on_progress"
        assert len(called) == len(calls), "called again before it returned"
    finally:
        over.set()


@pytest.mark.parametrize("kind", ENDS)
def test_headers_that_cannot_be_made_fail_the_call_and_no_other(
    connect: Connect, make_stub: MakeStub, kind: type[BaseException]
) -> None:
    broken = threading.Event()

    def headers() -> dict[str, str]:
        if broken.is_set():
            raise kind("as asked")
        return {"x-test": "made"}

    stub = make_stub()
    client = connect(stub.address, headers=headers, probe_interval=0.05)
    broken.set()
    with pytest.raises(AsrError, match=f"{kind.__name__}|as asked"):
        result(client.submit(ONES, timeout=5))
    time.sleep(0.3)
    broken.clear()
    assert result(client.submit(ONES, timeout=5)).text == "hello there"
    assert client.stats()[0].live


def test_headers_that_are_long_in_the_making_hold_up_no_other_call(connect: Connect, make_stub: MakeStub) -> None:
    over, slow, making = threading.Event(), threading.Event(), threading.Event()

    def headers() -> dict[str, str]:
        if slow.is_set():
            making.set()
            over.wait(30)
        return {}

    client = connect(make_stub().address, headers=headers)
    try:
        slow.set()
        stuck = client.submit(ONES, timeout=3)
        assert making.wait(10)
        slow.clear()
        assert result(client.submit(ONES, timeout=10)).text == "hello there"
        assert not stuck.done(), "it waited for the other's headers"
        with pytest.raises(DeadlineExceeded):
            result(stuck)
    finally:
        over.set()


def test_files_that_never_end_hold_up_no_large_bytes(connect: Connect, make_stub: MakeStub) -> None:
    over = threading.Event()

    class Endless:
        def read(self) -> bytes:
            over.wait(30)
            return b""

    client = connect(make_stub().address)
    try:
        stuck = [client.submit(Endless(), timeout=0.5) for _ in range(40)]
        for each in stuck:
            with pytest.raises(DeadlineExceeded):
                result(each)
        assert result(client.submit(bytes(9 << 20), timeout=5)).text == "hello there"
    finally:
        over.set()


def test_headers_may_ask_the_client(connect: Connect, make_stub: MakeStub) -> None:
    asking = threading.Lock()

    def headers() -> dict[str, str]:
        if clients and asking.acquire(blocking=False):
            answered.append(clients[0].health()[0].live)
            asking.release()
        return {}

    clients, answered = list[Any](), list[bool]()
    clients.append(connect(make_stub().address, headers=headers))
    assert result(clients[0].submit(ONES, timeout=5)).text == "hello there"
    assert answered[0]


@pytest.mark.parametrize("kind", [StopIteration, RuntimeError, SystemExit, KeyboardInterrupt])
def test_a_file_object_that_raises_fails_its_own_call(make_stub: MakeStub, kind: type[BaseException]) -> None:
    class Ending:
        def read(self) -> bytes:
            raise kind("as asked")

    expected = UnreadableFile if issubclass(kind, Exception) else kind
    with AsrClient(make_stub().address) as client:
        with pytest.raises(expected, match="as asked"):
            client.transcribe(Ending(), timeout=5)
        assert client.transcribe(ONES).text == "hello there"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, ValueError])
def test_a_source_that_raises_ends_the_stream_with_that(stand_in: StandIn, kind: type[BaseException]) -> None:
    def source() -> Iterator[Any]:
        yield np.zeros(1600, np.float32)
        raise kind("as asked")

    ended, read = list[BaseException](), threading.Event()

    def reader(client: AsrClient) -> None:
        try:
            with client.stream(source()) as events:
                for _ in events:
                    pass
        except BaseException as error:
            ended.append(error)
        read.set()

    with AsrClient(stand_in.address) as client:
        threading.Thread(target=reader, args=(client,), daemon=True).start()
        assert read.wait(10), "the reader waits for ever"
        assert [type(each) for each in ended] == [kind]
        assert client.transcribe(ONES).text == "160 160 16000"


def test_an_async_source_that_is_cancelled_ends_the_stream(stand_in: StandIn) -> None:
    async def source() -> AsyncIterator[Any]:
        yield np.zeros(1600, np.float32)
        raise asyncio.CancelledError

    async def read() -> None:
        async with AsyncAsrClient(stand_in.address) as client:
            async with client.stream(source()) as events:
                with pytest.raises(Cancelled, match="source"):
                    [event async for event in events]
            assert (await client.transcribe(ONES)).text == "160 160 16000"

    asyncio.run(asyncio.wait_for(read(), 10))
