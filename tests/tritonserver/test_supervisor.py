"""When a server is started anew, how long is paused, and when that ends: with servers that fail on order and no clock."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from asrloop.config import SupervisorSettings
from asrloop.tritonserver.install import TritonError
from asrloop.tritonserver.supervisor import Supervisor

SETTINGS = SupervisorSettings(max_restarts=3, restart_window_seconds=100.0)


class Time:
    """Moves only when somebody waits or serves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Server:
    """Serves for a while, or fails to start."""

    def __init__(self, time: Time, seconds: float | None, variables: Mapping[str, str]) -> None:
        self.time, self.seconds, self.variables = time, seconds, variables
        self.killed = False

    def __enter__(self) -> "Server":
        if self.seconds is None:
            raise TritonError("no port")
        return self

    def __exit__(self, *_: object) -> None:
        assert self.seconds is None or self.killed

    def kill(self) -> None:
        self.killed = True


def supervise(
    monkeypatch: pytest.MonkeyPatch, lives: list[float | None], worked: bool = False
) -> tuple[Supervisor, Time, list[Any], list[str]]:
    time, servers, said = Time(), list[Any](), list[str]()
    left: Iterator[float | None] = iter(lives)

    def make(variables: Mapping[str, str]) -> Any:
        try:
            servers.append(Server(time, next(left), variables))
        except StopIteration:
            raise KeyboardInterrupt from None
        return servers[-1]

    def watch(self: Supervisor, server: Server, ready: Callable[[Any], None]) -> str:
        ready(server)
        time.now += server.seconds or 0.0
        self._worked = worked
        return "the process of decoder_loop was ended by SIGKILL"

    monkeypatch.setattr(Supervisor, "_watch", watch)
    make_server: Callable[[Mapping[str, str]], Any] = make
    return Supervisor(make_server, SETTINGS, said.append, lambda: time.now, time.sleep), time, servers, said


def test_a_server_that_dies_is_killed_whole_and_started_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, time, servers, said = supervise(monkeypatch, [60.0, 60.0])
    with pytest.raises(KeyboardInterrupt):
        supervisor.run(lambda server: None)
    assert [server.killed for server in servers] == [True, True]
    assert time.pauses == [0.0, 0.0]
    assert [server.variables["ASRLOOP_RESTARTS"] for server in servers] == ["0", "1"]
    assert said[0].startswith(
        "the process of decoder_loop was ended by SIGKILL; restarting the server in 0 s (1 of at most 3"
    )


def test_quick_failures_are_paused_for_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, time, _, _ = supervise(monkeypatch, [1.0, None, 1.0, 1.0, 1.0])
    with pytest.raises(
        TritonError, match=r"giving up after 3 restarts within 100 s in which nothing was answered \(supervisor"
    ):
        supervisor.run(lambda server: None)
    assert time.pauses == [0.0, 1.0, 2.0]


def test_old_failures_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, _, servers, _ = supervise(monkeypatch, [40.0] * 20)
    with pytest.raises(KeyboardInterrupt):
        supervisor.run(lambda server: None)
    assert len(servers) == 20
    assert supervisor.restarts == 20


def test_a_poison_file_does_not_end_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sends a file that ends a process, again and again; the server works for others until then."""
    supervisor, time, servers, said = supervise(monkeypatch, [0.5] * 30, worked=True)
    with pytest.raises(KeyboardInterrupt):
        supervisor.run(lambda server: None)
    assert (len(servers), supervisor.restarts, time.pauses) == (30, 30, [])
    assert all(line.endswith("restarting the server in 0 s (it worked until then)") for line in said)


def test_a_first_start_that_fails_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, _, servers, _ = supervise(monkeypatch, [None, 60.0])
    with pytest.raises(TritonError, match="^no port$"):
        supervisor.run(lambda server: None)
    assert len(servers) == 1
