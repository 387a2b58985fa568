"""Three real servers behind HAProxy, and in the client's own list: killed, drained and added under load, and no call is lost."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from asrloop_bench.operations.balancer import Balancer, balancing
from asrloop_client import AsrClient
from numpy.typing import NDArray

from tests.conftest import BECKETT, eventually, words
from tests.deploy.playing import spoken
from tests.faults.harness import Serving, Speech

pytestmark = pytest.mark.slow
SERVERS = 3
CALLERS = 8
needs_haproxy = pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy: apt-get install haproxy")


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, speech: Speech, model_repository: Path
) -> Iterator[list[Serving]]:
    folder = tmp_path_factory.mktemp("scale")
    running: list[Serving] = []
    try:
        for number in range(SERVERS):
            running.append(Serving(folder / f"serve{number}.log"))
            running[-1].wait(speech)
        yield running
    finally:
        with ExitStack() as stack:
            for each in running:
                stack.callback(each.stop)


def set_state(balancer: Balancer, server: int, state: str) -> None:
    """Set a server to ``drain``, which gets no new calls, or back to ``ready``."""
    assert balancer.told(f"set server asrloop/asr{server + 1} state {state}").strip() == ""


def calls_of(balancer: Balancer) -> list[int]:
    """The number of calls that each server got so far."""
    return [int(row["stot"]) for row in balancer.table()]


def under_way(balancer: Balancer, server: int) -> int:
    """The number of calls that a server works on now."""
    return int(balancer.table()[server]["scur"])


class Load:
    """What became of the calls."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.failed: list[BaseException] = []
        self.over = threading.Event()

    def ask(self, client: AsrClient, samples: NDArray[np.float32]) -> None:
        while not self.over.is_set():
            try:
                self.texts.append(client.transcribe(samples, sample_rate=16_000).text)
            except BaseException as error:
                self.failed.append(error)


@contextmanager
def loaded(client: AsrClient, samples: NDArray[np.float32]) -> Iterator[Load]:
    """Callers that ask without a pause while the block runs; afterwards none may have failed."""
    load = Load()
    threads = [threading.Thread(target=load.ask, args=(client, samples)) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.over.set()
        for thread in threads:
            thread.join(60)
    assert load.failed == []
    assert {words(text) for text in load.texts} == {BECKETT}


def hurt_in_turn(
    servers: list[Serving],
    speech: Speech,
    calls: Callable[[], list[int]],
    drain: Callable[[int, bool], None],
    say: Callable[[str], None],
) -> None:
    """Kill one, drain and stop another, and start it again; whoever is there gets calls."""

    def gets_calls(number: int) -> bool:
        before = calls()[number]
        return eventually(lambda: calls()[number] > before + 4, 60)

    assert all(map(gets_calls, range(SERVERS)))
    say("all there")
    killed = servers[0].server
    os.kill(killed, signal.SIGKILL)
    assert gets_calls(1)
    assert eventually(lambda: servers[0].server not in (0, killed), 60), "it was not started anew"
    servers[0].wait(speech)
    assert gets_calls(0), "it did not come back"
    say("the first killed and back")
    last = SERVERS - 1
    drain(last, True)
    servers[last].stop()
    assert gets_calls(0)
    say("the last drained and stopped")
    servers[last].start()
    drain(last, False)
    assert gets_calls(last), "it was not taken on"
    say("the last started and added")


@needs_haproxy
def test_behind_haproxy_nothing_is_lost(servers: list[Serving], speech: Speech, beckett: NDArray[np.float32]) -> None:
    with (
        balancing([(each.address, each.http) for each in servers]) as balancer,
        AsrClient(balancer.address, timeout=60) as client,
    ):

        def drain(number: int, off: bool) -> None:
            set_state(balancer, number, "drain" if off else "ready")
            assert not off or eventually(lambda: under_way(balancer, number) == 0, 60)

        started = calls_of(balancer)
        with loaded(client, beckett) as load:
            began = time.monotonic()
            quiet = len(load.texts)
            hurt_in_turn(
                servers, speech, lambda: calls_of(balancer)[:SERVERS], drain,
                lambda what: print(f"\n{time.monotonic() - began:5.1f} s  {what}: calls {calls_of(balancer)[:SERVERS]}", end=""),
            )  # fmt: skip
            before = calls_of(balancer)
            assert eventually(lambda: sum(calls_of(balancer)) - sum(before) >= 40 * SERVERS, 60)
            gained = [after - earlier for after, earlier in zip(calls_of(balancer), before, strict=True)][:SERVERS]
        print(
            f"\n{len(load.texts) - quiet} calls of {CALLERS} callers, none failed; at the end {gained}; {sum(started)} before"
        )
        assert min(gained) > max(gained) / 3, "the load is not spread"


def test_by_the_clients_own_list_nothing_is_lost(
    servers: list[Serving], speech: Speech, beckett: NDArray[np.float32]
) -> None:
    with AsrClient([each.address for each in servers], timeout=60) as client:

        def calls() -> list[int]:
            return [state.calls for state in client.stats()]

        with loaded(client, beckett) as load:
            hurt_in_turn(
                servers,
                speech,
                calls,
                lambda number, off: None,
                lambda what: print(f"\n{what}: calls {calls()}", end=""),
            )
            before = calls()
            assert eventually(lambda: sum(calls()) - sum(before) >= 40 * SERVERS, 60)
            gained = [after - earlier for after, earlier in zip(calls(), before, strict=True)]
        print(f"\n{len(load.texts)} calls of {CALLERS} callers, none failed; at the end {gained}")
        assert min(gained) > max(gained) / 3, "the load is not spread"


@needs_haproxy
def test_a_stream_stays_with_its_server_while_others_come_and_go(
    servers: list[Serving], beckett: NDArray[np.float32]
) -> None:
    with (
        balancing([(each.address, each.http) for each in servers]) as balancer,
        AsrClient(balancer.address, timeout=60) as client,
    ):
        with client.stream(spoken(beckett)) as events:
            assert eventually(lambda: any(under_way(balancer, number) for number in range(SERVERS)), 10)
            holds = next(number for number in range(SERVERS) if under_way(balancer, number))
            set_state(balancer, holds, "drain")
            assert words(client.transcribe(beckett, sample_rate=16_000).text) == BECKETT  # by another
            said = [event.text for event in events if event.final]
        assert words(" ".join(said)) == BECKETT
