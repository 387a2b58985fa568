"""A process of the server is killed or stopped under load: nobody waits for ever, and the next request is right again soon."""

import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.faults.conftest import Report
from tests.faults.harness import Serving, Speech, callers

MODELS = ["audio_frontend", "decoder_loop", "tritonserver"]
LIMIT_SECONDS = {signal.SIGKILL: 30.0, signal.SIGSTOP: 60.0}
"""Until right again. A hang is noticed by the canary: one interval, its time limit, and twice asking what was done meanwhile."""


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)], ids=["SIGKILL", "SIGSTOP"]
)
@pytest.mark.parametrize("model", MODELS)
def test_signal_under_load(
    model: str, number: signal.Signals, serving: Serving, speech: Speech, report: Report
) -> None:
    process = serving.processes()[model]
    with callers(serving.address, speech) as outcomes:
        assert eventually(lambda: outcomes.counts["ok"] >= 8)
        os.kill(process, number)
        started = time.monotonic()
        assert eventually(lambda: serving.processes().get(model) not in (process, None), LIMIT_SECONDS[number]), (
            serving.said()
        )
        serving.wait(speech)
        recovery = time.monotonic() - started
        before = outcomes.counts["ok"]
        assert eventually(lambda: outcomes.counts["ok"] >= before + 8)
    report(outcomes, f"right after {recovery:.1f} s")
    assert recovery <= LIMIT_SECONDS[number]
    assert f"the process of {model}" in serving.said() or "the server hangs" in serving.said()


@pytest.mark.slow
def test_a_process_that_ends_at_once_is_no_reason_to_give_up(
    tmp_path: Path, speech: Speech, model_repository: Path
) -> None:
    """A caller repeats a file that ends a parser. The limit of restarts is for servers that do no work."""
    serving = Serving(tmp_path / "serve.log", ASRLOOP_SUPERVISOR__MAX_RESTARTS="0")
    try:
        for count in (1, 2):
            assert eventually(lambda count=count: serving.said().count("Ctrl-C stops it") == count, 60)
            os.kill(serving.processes()["audio_frontend"], signal.SIGKILL)
            assert eventually(lambda count=count: serving.said().count("was ended by SIGKILL") == count)
        serving.wait(speech)
        assert serving.said().count("restarting the server in 0 s (it worked until then)") == 2
    finally:
        serving.stop()


@pytest.mark.slow
def test_a_stopped_asr_stream(serving: Serving, speech: Speech, report: Report) -> None:
    """It takes no part in what the others answer."""
    process = serving.processes()["asr_stream"]
    with callers(serving.address, speech, count=2) as outcomes:
        os.kill(process, signal.SIGSTOP)
        assert eventually(lambda: serving.processes().get("asr_stream") not in (process, None), 60)
    report(outcomes)
    serving.wait(speech)


FROZEN_THREADS = """

heads = FileDecoder._heads


def heads_or_nothing(self, *arguments):
    import pathlib
    import time
    while pathlib.Path({marker!r}).exists():
        time.sleep(0.2)
    return heads(self, *arguments)


FileDecoder._heads = heads_or_nothing
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 8])
def test_threads_that_decode_nothing(
    count: int, repository_copy: Path, tmp_path: Path, speech: Speech, report: Report
) -> None:
    """Triton counts a request as done when execute() returns, so only answers show that the process works."""
    marker = tmp_path / "freeze"
    with (repository_copy / "audio_frontend" / "1" / "model.py").open("a") as code:
        code.write(FROZEN_THREADS.format(marker=str(marker)))
    serving = Serving(tmp_path / "serve.log", repository=repository_copy)
    try:
        serving.wait(speech)
        with callers(serving.address, speech, count) as outcomes:
            marker.touch()
            started = time.monotonic()
            assert eventually(lambda: "the server hangs: audio_frontend" in serving.said(), 60), serving.said()
            marker.unlink()
            recovery = time.monotonic() - started + serving.wait(speech)
        report(outcomes, f"right after {recovery:.1f} s")
    finally:
        marker.unlink(missing_ok=True)
        serving.stop()


BROKEN_REPLY = """

send = Reply.end


def send_or_fail(reply, result):
    import pathlib
    marker = pathlib.Path({marker!r})
    if marker.exists():
        marker.unlink()
        raise OSError("no way out")
    send(reply, result)


Reply.end = send_or_fail
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["audio_frontend", "decoder_loop"])
def test_a_reply_that_cannot_be_sent(
    model: str, repository_copy: Path, tmp_path: Path, speech: Speech, report: Report
) -> None:
    """Its caller would wait for ever, beside a model that says READY: the process ends, and the supervisor starts anew."""
    marker = tmp_path / "break"
    with (repository_copy / model / "1" / "model.py").open("a") as code:
        code.write(BROKEN_REPLY.format(marker=str(marker)))
    serving = Serving(tmp_path / "serve.log", repository=repository_copy)
    try:
        serving.wait(speech)
        with callers(serving.address, speech, count=2) as outcomes:
            assert eventually(lambda: outcomes.counts["ok"] >= 4)
            marker.touch()
            started = time.monotonic()
            assert eventually(lambda: not marker.exists())
            assert eventually(lambda: f"the process of {model}" in serving.said())
            serving.wait(speech)
            recovery = time.monotonic() - started
        report(outcomes, f"right after {recovery:.1f} s")
        assert "no way out" in serving.said()
    finally:
        serving.stop()


def test_restarts_are_counted(serving: Serving) -> None:
    restarts = serving.said().count("restarting the server")
    with urllib.request.urlopen(f"http://127.0.0.1:{serving.metrics}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    assert f"asrloop_restarts_total {restarts}" in lines or restarts == 0
