"""A request that ends the process of every server that gets it: two are lost, not all, and its neighbours get their text."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from asrloop_client import AsrClient, ServersDied

from tests.client.stand_in import StandIn
from tests.client.stub import Stub
from tests.conftest import eventually

Connect = Callable[..., Any]
MakeStub = Callable[..., Stub]
ONES = np.ones(160, np.float32)
POISON = {"die_ms": 50}


class Keeper:
    """Starts stubs again as a supervisor does, and counts their deaths."""

    def __init__(self, stubs: list[Stub]) -> None:
        self.deaths, self._stubs, self._over = 0, stubs, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            for stub in self._stubs:
                if stub.has_died():
                    self.deaths += 1
                    time.sleep(0.2)
                    stub.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def keep() -> Iterator[Callable[[list[Stub]], Keeper]]:
    keepers: list[Keeper] = []

    def make(stubs: list[Stub]) -> Keeper:
        keepers.append(Keeper(stubs))
        return keepers[-1]

    yield make
    for keeper in keepers:
        keeper.stop()


@pytest.mark.parametrize("options", [{}, {"pooling": False}, {"fail_fast": True}], ids=["pool", "no_pool", "fail_fast"])
def test_two_servers_of_three_die_and_the_caller_is_told(
    connect: Connect, make_stub: MakeStub, options: dict[str, Any]
) -> None:
    stubs = [make_stub() for _ in range(3)]
    client = connect([each.address for each in stubs], **options)
    with pytest.raises(ServersDied) as caught:
        client.submit(ONES, timeout=10, parameters=POISON).result(20)
    error = caught.value
    assert str(error).startswith("[servers_died] ")
    assert (error.code, error.retryable) == ("servers_died", False)
    assert eventually(lambda: sum(each.has_died() for each in stubs) == 2)
    for stub in stubs:
        assert (stub.address in str(error)) is stub.has_died()
    assert client.transcribe(ONES).text == "hello there"


@pytest.mark.parametrize("connect", ["threads"], indirect=True)
def test_one_server_that_starts_again_dies_twice(
    connect: Connect, make_stub: MakeStub, keep: Callable[[list[Stub]], Keeper]
) -> None:
    stub = make_stub()
    client, keeper = connect(stub.address), keep([stub])
    with pytest.raises(ServersDied):
        client.submit(ONES, timeout=20, parameters=POISON).result(30)
    assert client.transcribe(ONES, timeout=20).text == "hello there"
    assert keeper.deaths == 2


@pytest.mark.parametrize("connect", ["threads"], indirect=True)
@pytest.mark.parametrize("count", [1, 3])
def test_neighbours_of_such_a_request_get_their_texts(
    connect: Connect, make_stub: MakeStub, keep: Callable[[list[Stub]], Keeper], count: int
) -> None:
    stubs = [make_stub() for _ in range(count)]
    client, keeper = connect([each.address for each in stubs]), keep(stubs)
    innocent = [client.submit(ONES, timeout=60, parameters={"sleep_ms": 300}) for _ in range(12 * count)]
    time.sleep(0.1)
    with pytest.raises(ServersDied):
        client.submit(ONES, timeout=60, parameters=POISON).result(60)
    assert {each.result(60).text for each in innocent} == {"hello there"}
    assert eventually(lambda: not any(stub.has_died() for stub in stubs)), "all are counted, and serve again"
    assert keeper.deaths == 2


@pytest.mark.slow
def test_a_long_request_survives_two_others_ends(make_stub: MakeStub) -> None:
    """What lived far longer at the second server than at the first is not what ends them."""
    stubs = [make_stub() for _ in range(3)]
    with AsrClient([each.address for each in stubs], timeout=60) as client:
        done: list[str] = []
        parameters = {"sleep_ms": 5000}
        thread = threading.Thread(target=lambda: done.append(client.transcribe(ONES, parameters=parameters).text))
        thread.start()
        for after in (0.3, 4.0):
            time.sleep(after)
            (busy,) = (stub for stub, state in zip(stubs, client.stats(), strict=True) if state.pool.in_use)
            busy.kill()
        thread.join(30)
        assert done == ["hello there"]


@pytest.mark.parametrize("connect", ["threads"], indirect=True)
def test_connections_that_are_refused_and_answers_are_no_deaths(connect: Connect, make_stub: MakeStub) -> None:
    stubs = [make_stub() for _ in range(3)]
    client = connect([each.address for each in stubs])
    for stub in stubs:
        stub.kill()
    call = client.submit(ONES, timeout=30)
    time.sleep(1)
    stubs[0].start()
    assert call.result(30).text == "hello there"
    unavailable = {"status": "UNAVAILABLE", "message": "Server is stopping", "times": 3}
    assert client.transcribe(ONES, parameters=unavailable).attempts >= 4
    assert eventually(lambda: client.stats()[0].live)


@pytest.mark.slow
def test_live_audio_that_ends_servers_is_not_sent_on(make_stand_in: Callable[..., StandIn]) -> None:
    server = make_stand_in()
    with AsrClient(server.address, timeout=30) as client, client.stream(resume=True) as stream:
        for _ in range(2):
            stream.send(np.zeros(8000, np.int16))
            assert eventually(lambda: client.stats()[0].live)
            assert next(stream)
            server.kill()
            server.start()
        with pytest.raises(ServersDied):
            list(stream)
