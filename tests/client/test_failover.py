"""Servers killed with SIGKILL under load: no call hangs, none fails that another server could answer, and all recovers."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from asrloop_client import DeadlineExceeded, ModelNotReady

from tests.client.stand_in import StandIn, connections_to
from tests.conftest import eventually

Connect = Callable[..., Any]
ONES = np.ones(160, np.float32)


class Load:
    """Threads that transcribe without a pause until stopped, and what became of each call."""

    def __init__(self, client: Any, threads: int) -> None:
        self._client = client
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.succeeded = 0
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            error: BaseException | None = None
            try:
                self._client.transcribe(ONES, parameters={"sleep_ms": 20})
            except BaseException as raised:
                error = raised
                time.sleep(0.01)
            with self._lock:
                if error is None:
                    self.succeeded += 1
                else:
                    self.errors.append(error)

    def wait_for(self, calls: int) -> None:
        target = self.succeeded + calls
        assert eventually(lambda: self.succeeded >= target), self.errors[-1:]

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_with_one_server_of_two_killed_no_call_fails_and_it_is_used_again(
    connect: Connect, make_stand_in: Callable[..., StandIn]
) -> None:
    first, second = make_stand_in(), make_stand_in()
    client = connect([first.address, second.address], probe_interval=0.2)
    load = Load(client, threads=6)
    try:
        load.wait_for(40)
        assert all(each.calls > 10 for each in client.stats()), "one server got almost no calls"
        first.kill()
        load.wait_for(100)
        assert [each.is_in for each in client.stats()] == [False, True]
        first.start()
        assert eventually(lambda: all(each.is_in for each in client.stats()) or False)
        before = client.stats()[0].calls
        load.wait_for(60)
        assert client.stats()[0].calls > before + 10
    finally:
        load.stop()
    assert load.errors == []


def test_a_server_that_is_down_at_the_start_is_used_later(
    connect: Connect, stand_in: StandIn, make_stand_in: Callable[..., StandIn]
) -> None:
    late = make_stand_in()
    late.kill()
    client = connect([late.address, stand_in.address], probe_interval=0.1)
    assert client.transcribe(ONES).endpoint == stand_in.address
    assert eventually(lambda: [each.is_in for each in client.stats()] == [False, True])
    late.start()
    assert eventually(lambda: client.stats()[0].is_in)
    assert eventually(lambda: connections_to(late.address) == 5 + 1)
    assert {client.transcribe(ONES).endpoint for _ in range(4)} == {late.address, stand_in.address}


def test_a_server_whose_model_is_gone_is_set_aside(connect: Connect, make_stand_in: Callable[..., StandIn]) -> None:
    """The server itself stays live and ready."""
    server = make_stand_in("--model-control-mode=explicit", "--load-model=*")
    client = connect(server.address)
    server.control("unload", "asr_ensemble")
    with pytest.raises(DeadlineExceeded, match="asr_ensemble"):
        client.transcribe(ONES, timeout=1)
    assert not client.stats()[0].is_in
    waiting = client.submit(ONES, timeout=30)
    server.control("load", "asr_ensemble")
    assert waiting.result().text == "160 160 16000"
    assert client.stats()[0].is_in
    with pytest.raises(ModelNotReady, match="'nothing'"):
        connect(server.address, model="nothing").transcribe(ONES, timeout=30)
