"""Servers killed with SIGKILL under load: no call hangs, none fails that another server could answer, and all recovers."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from asrloop_client import DeadlineExceeded, InvalidAudio, ModelNotReady

from asrloop.tritonserver.install import TritonInstallation
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
        assert eventually(lambda: all(each.calls > 10 for each in client.stats())), "one server got almost no calls"
        first.kill()
        load.wait_for(100)
        assert [each.live for each in client.stats()] == [False, True]
        first.start()
        assert eventually(lambda: all(each.live for each in client.stats()) or False)
        before = client.stats()[0].calls
        assert eventually(lambda: client.stats()[0].calls > before + 10)
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
    assert eventually(lambda: [each.live for each in client.stats()] == [False, True])
    late.start()
    assert eventually(lambda: client.stats()[0].live)
    assert eventually(lambda: connections_to(late.address) == 5 + 1)
    assert {client.transcribe(ONES).endpoint for _ in range(4)} == {late.address, stand_in.address}


@pytest.fixture(scope="module", params=[False, True], ids=["index", "index_closed"])
def controlled(
    request: pytest.FixtureRequest, installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandIn]:
    """Loads and unloads models when told to. Off the loopback `serve` closes the index of models to strangers."""
    restricted = ["--grpc-restricted-protocol=model-repository:asrloop-administration=x"] if request.param else []
    arguments = ["--model-control-mode=explicit", "--load-model=*", *restricted]
    server = StandIn(installation, tmp_path_factory.mktemp("controlled") / "log", arguments)
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.mark.parametrize(("model", "audio"), [("asr_ensemble", ONES), ("asr_file", b"RIFF")])
def test_calls_wait_for_a_model_that_is_not_loaded(
    connect: Connect, controlled: StandIn, model: str, audio: Any
) -> None:
    server = controlled
    client = connect(server.address)
    server.control("unload", model)
    with pytest.raises(DeadlineExceeded, match=model):
        client.transcribe(audio, timeout=1)
    assert client.stats()[0].models[model] is False
    other = b"RIFF" if model == "asr_ensemble" else ONES
    with contextlib.suppress(InvalidAudio):  # an answer
        client.transcribe(other, fail_fast=True)
    waiting = client.submit(audio, timeout=30)
    server.control("load", model)
    with contextlib.suppress(InvalidAudio):
        waiting.result()
    assert eventually(lambda: client.stats()[0].ready)


def test_who_fails_fast_asks_again_for_a_model_that_was_not_loaded(connect: Connect, controlled: StandIn) -> None:
    """It was told so until the next probe, a minute later, however long the model was back."""
    client = connect(controlled.address, fail_fast=True, probe_interval=3600)
    controlled.control("unload", "asr_ensemble")
    for _ in range(2):
        with pytest.raises(ModelNotReady, match="asr_ensemble"):
            client.transcribe(ONES)
    controlled.control("load", "asr_ensemble")
    assert client.transcribe(ONES).text == "160 160 16000"


def test_a_model_without_a_name_at_the_server_is_an_error_at_once(connect: Connect, stand_in: StandIn) -> None:
    with pytest.raises(ModelNotReady, match="'nothing'"):
        connect(stand_in.address, model="nothing").transcribe(ONES, timeout=30)


def test_connecting_to_a_server_that_still_loads_its_models_waits_for_one(
    connect: Connect, make_stand_in: Callable[..., StandIn]
) -> None:
    server = make_stand_in("--model-control-mode=explicit")
    with pytest.raises(ModelNotReady, match="asr_ensemble"):
        connect(server.address, timeout=2)
    with pytest.raises(ModelNotReady, match="asr_ensemble"):
        connect(server.address, fail_fast=True)
    threading.Timer(0.5, server.control, ("load", "asr_ensemble")).start()
    assert connect(server.address).transcribe(ONES).text == "160 160 16000"
