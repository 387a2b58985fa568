"""A call that is cancelled ends at once, and the server is told."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from asrloop_client import AsrClient, AsyncAsrClient, Cancelled, CancelToken

from tests.client.stand_in import StandIn
from tests.conftest import eventually

ONES = np.ones(160, np.float32)
LONG = {"sleep_ms": 60_000}


def runs(stand_in: StandIn, count: int) -> bool:
    """Whether `count` requests come to run at the server."""
    return eventually(lambda: stand_in.metric("stand_in_running") == count)


def test_a_token_cancels_a_blocking_call_at_the_server(stand_in: StandIn) -> None:
    before = stand_in.metric("stand_in_cancelled")
    token = CancelToken()
    with AsrClient(stand_in.address) as client:
        canceller = threading.Thread(target=lambda: runs(stand_in, 1) and token.cancel())
        canceller.start()
        with pytest.raises(Cancelled):
            client.transcribe(ONES, parameters=LONG, cancel=token)
        canceller.join()
        assert eventually(lambda: stand_in.metric("stand_in_cancelled") == before + 1)
        assert eventually(lambda: client.stats()[0].pool.in_use == 0)
        calls = client.stats()[0].pool.reused + client.stats()[0].pool.created
        with pytest.raises(Cancelled):
            client.transcribe(ONES, parameters=LONG, cancel=token)
        assert client.stats()[0].pool.reused + client.stats()[0].pool.created == calls, (
            "sent though it was cancelled before"
        )
        assert client.transcribe(ONES, cancel=CancelToken()).text == "160 160 16000"


def test_a_cancelled_task_cancels_its_call_at_the_server(stand_in: StandIn) -> None:
    before = stand_in.metric("stand_in_cancelled")

    async def run() -> None:
        async with AsyncAsrClient(stand_in.address) as client:
            task = asyncio.create_task(client.transcribe(ONES, parameters=LONG))
            assert await asyncio.to_thread(runs, stand_in, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert eventually(lambda: client.stats()[0].pool.in_use == 0)
            assert (await client.transcribe(ONES)).text == "160 160 16000"

    asyncio.run(run())
    assert eventually(lambda: stand_in.metric("stand_in_cancelled") == before + 1)


def test_a_deadline_cancels_the_call_at_the_server(stand_in: StandIn) -> None:
    before = stand_in.metric("stand_in_cancelled")
    with AsrClient(stand_in.address) as client, pytest.raises(TimeoutError):
        client.transcribe(ONES, timeout=2, parameters=LONG)
    assert eventually(lambda: stand_in.metric("stand_in_cancelled") == before + 1)


def test_leaving_transcribe_many_early_cancels_the_rest(stand_in: StandIn) -> None:
    before = stand_in.metric("stand_in_cancelled")
    with AsrClient(stand_in.address) as client:
        results = client.transcribe_many([b"no audio", ONES, ONES], concurrency=3, return_errors=True, parameters=LONG)
        next(results)
        assert runs(stand_in, 2)
        results.close()
        assert eventually(lambda: stand_in.metric("stand_in_cancelled") == before + 2)


def test_of_two_servers_the_one_that_has_the_call_is_told(make_stand_in: Callable[..., StandIn]) -> None:
    both = [make_stand_in(), make_stand_in()]
    tokens = [CancelToken(), CancelToken()]
    with AsrClient([each.address for each in both]) as client, ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(client.transcribe, ONES, parameters=LONG, cancel=token) for token in tokens]
        assert all(runs(each, 1) for each in both)
        for count, (token, call) in enumerate(zip(tokens, calls, strict=True), start=1):
            token.cancel()
            with pytest.raises(Cancelled):
                call.result()
            assert eventually(lambda count=count: sum(each.metric("stand_in_cancelled") for each in both) == count)
        assert [each.metric("stand_in_cancelled") for each in both] == [1, 1]


def test_cancelling_ends_a_wait_for_a_server() -> None:
    token = CancelToken()
    threading.Timer(0.05, token.cancel).start()
    with AsrClient("127.0.0.1:1", prewarm=False) as client, pytest.raises(Cancelled):
        client.transcribe(ONES, cancel=token)
