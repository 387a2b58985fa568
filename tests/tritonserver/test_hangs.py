"""A hung server is told from a busy one by the answers that others get, and by the processor time of its processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from asrloop.tritonserver import canary, hangs
from asrloop.tritonserver.hangs import MOST_DOUBTS, HangWatch
from asrloop.tritonserver.process import TritonServer
from asrloop.tritonserver.processes import local_server, metrics_port, processor_seconds
from tests.conftest import eventually
from tests.model_repository.test_contract import settled

NO_ANSWER = [canary.CanaryFailed("audio_frontend", "gave no answer within 0.01 s (timed out)")]
PROCESSES = {"tritonserver": 1, "audio_frontend": 2, "decoder_loop": 3}


class Signs:
    """What is seen of a server in a round: its answers, its processor times, and whether Triton itself answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: Iterator[dict[str, float]] = iter([])
        self.shares: dict[int, float] = {}
        self.live = True
        self.failures = NO_ANSWER
        monkeypatch.setattr(canary, "failures", lambda endpoint, timeout, on_answer: self.failures)
        monkeypatch.setattr(canary, "answers", lambda url: next(self.answers, {}))
        monkeypatch.setattr(canary, "is_live", lambda endpoint: self.live)
        monkeypatch.setattr(
            hangs, "processor_seconds", lambda process: time.monotonic() * self.shares.get(process, 0.0)
        )


@pytest.fixture
def signs(monkeypatch: pytest.MonkeyPatch) -> Signs:
    return Signs(monkeypatch)


def watch() -> HangWatch:
    return HangWatch("host:1", "http://host:2/metrics", 0.01, PROCESSES)


def counted(*numbers: float) -> Iterator[dict[str, float]]:
    return iter([{"asr_ensemble": 0.0, "audio_frontend": number, "asr_stream": 0.0} for number in numbers])


def test_a_model_that_answers_others_is_busy(signs: Signs) -> None:
    signs.answers = counted(5, 6)
    asked = watch()
    assert asked.why_hung() is None
    assert asked.busy == "audio_frontend gave no answer within 0.01 s (timed out)"


def test_a_model_that_answers_nobody_and_uses_no_processor_hangs(signs: Signs) -> None:
    """The others' work is no excuse for it."""
    signs.answers = counted(5, 5)
    signs.shares = {1: 0.9, 3: 1.9}
    assert watch().why_hung() == "audio_frontend gave no answer within 0.01 s (timed out)"


@pytest.mark.parametrize("answers", [[5.0] * 100, []], ids=["same counts", "no answer from /metrics"])
def test_a_model_that_works_may_take_its_time_but_not_for_ever(signs: Signs, answers: list[float]) -> None:
    """A hostile file takes its limit of processor time before anything is answered."""
    signs.answers = counted(*answers)
    signs.shares = {2: 0.5}
    asked = watch()
    for _ in range(MOST_DOUBTS):
        assert asked.why_hung() is None
    assert asked.why_hung() is not None
    signs.failures = []
    assert asked.why_hung() is None
    signs.failures = NO_ANSWER
    assert asked.why_hung() is None, "an answer clears all doubts"


@pytest.mark.parametrize(("live", "hung"), [(False, False), (True, True)])
def test_a_server_that_parses_a_large_form_is_busy(signs: Signs, live: bool, hung: bool) -> None:
    """No thread of Triton's HTTP answers, so the question does not reach the model."""
    signs.shares = {1: 0.9}
    signs.live = live
    assert (watch().why_hung() is not None) == hung


def test_a_refusal_counts_as_an_answer_only_when_others_get_theirs(signs: Signs) -> None:
    """Behind threads that are stopped the inbox fills, and everybody is refused."""
    signs.failures = [canary.CanaryFailed("audio_frontend", "answered 503: [overloaded] 64 files wait")]
    signs.answers = counted(5, 5)
    assert watch().why_hung() is not None
    signs.answers = counted(5, 6)
    assert watch().why_hung() is None


def test_processor_time_is_that_of_threads_that_work(beside_a_loop: int) -> None:
    before = processor_seconds(beside_a_loop)
    assert eventually(lambda: processor_seconds(beside_a_loop) - before > 0.05)
    os.kill(beside_a_loop, signal.SIGSTOP)
    time.sleep(0.1)
    before = processor_seconds(beside_a_loop)
    time.sleep(0.3)
    assert processor_seconds(beside_a_loop) - before < 0.1 * 0.3
    assert processor_seconds(2**22 + 1) == 0


@pytest.fixture
def beside_a_loop() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process.pid
    process.kill()
    process.wait()


def test_a_silent_connection_is_not_the_servers(server: TritonServer) -> None:
    """One thread of eight parses a stranger's form; the question is asked on a second connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        kept: list[socket.socket] = []

        def pass_on(there: socket.socket, back: socket.socket) -> None:
            with contextlib.suppress(OSError):  # closed at the end
                while data := there.recv(1 << 16):
                    back.sendall(data)

        def serve() -> None:
            for number in range(4):
                try:
                    connection, _ = listener.accept()
                except OSError:  # no further one came
                    return
                kept.append(connection)
                if number:  # the first is never read
                    host, port = server.http_endpoint.split(":")
                    kept.append(socket.create_connection((host, int(port))))
                    for pair in (kept[-2:], kept[:-3:-1]):
                        threading.Thread(target=pass_on, args=pair, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        assert canary.failures(f"127.0.0.1:{listener.getsockname()[1]}", 4.0) == []
        for each in kept:
            each.close()


def test_every_question_is_answered_and_answers_to_others_are_counted(server: TritonServer) -> None:
    canary.transcribe(server.http_endpoint, timeout=20)
    before = settled(lambda: canary.answers(server.metrics_url))
    assert set(before) == {question.model for question in canary.questions()}
    canary.transcribe(server.http_endpoint, timeout=20)
    assert eventually(lambda: canary.answers(server.metrics_url)["asr_ensemble"] > before["asr_ensemble"])
    # What audio_frontend has merely taken is no answer.
    assert canary.answers(server.metrics_url)["audio_frontend"] == before["audio_frontend"]
    assert canary.is_live(server.http_endpoint)


def test_a_server_is_found_by_its_port(server: TritonServer) -> None:
    found = local_server(server.settings.http_port)
    assert found["tritonserver"] == server.pid
    assert {"decoder_loop", "audio_frontend", "asr_stream"} <= set(found)
    assert metrics_port(server.pid) == server.settings.metrics_port
    assert local_server(1) == {}


def test_health_says_that_a_server_is_busy(
    signs: Signs, server: TritonServer, capsys: pytest.CaptureFixture[str]
) -> None:
    from asrloop.cli import health

    found = local_server(server.settings.http_port)
    signs.shares = {found["audio_frontend"]: 0.9}
    health(server.http_endpoint, 0.01)
    assert "is busy: audio_frontend gave no answer" in capsys.readouterr().err
