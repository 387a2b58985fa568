"""What the examples' page shows works as it stands there."""

import asyncio
import difflib
import runpy
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from asrloop_client import StreamEvent
from numpy.typing import NDArray

from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT, ROOT, words

Samples = NDArray[np.float32]
EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("name", ["plain_triton_client.py", "blocking_client.py", "asyncio_client.py", "curl.sh"])
def test_an_example_prints_the_text(name: str, server: TritonServer, beckett_path: Path) -> None:
    address = server.http_endpoint if name == "curl.sh" else server.grpc_endpoint
    runner = [] if name == "curl.sh" else [sys.executable]
    command = [*runner, str(EXAMPLES / name), address, str(beckett_path)]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
    assert BECKETT in words(printed.decode("utf-8", errors="replace"))


@pytest.mark.slow
def test_the_live_example_prints_the_words_while_they_are_spoken(server: TritonServer, beckett_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "live_client.py"), server.grpc_endpoint, str(beckett_path)]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout.decode()
    lines = [line.split("\r") for line in printed.split("\n")]
    assert words(" ".join(line[-1] for line in lines)) == BECKETT
    assert len(lines[0]) > 1, "no words before the segment's end"


@pytest.mark.parametrize("source", [pytest.param("file", marks=pytest.mark.slow), "microphone"])
def test_the_voice_agent_answers_each_turn(
    source: str, server: TritonServer, beckett_path: Path, beckett: Samples
) -> None:
    command = [sys.executable, str(EXAMPLES / "voice_agent.py"), server.grpc_endpoint]
    pcm = (np.concatenate([beckett, np.zeros(32_000, np.float32)]) * 32767).astype("<i2").tobytes() + b"\0"
    arguments, given = ([str(beckett_path)], b"") if source == "file" else ([], pcm)
    done = subprocess.run([*command, *arguments], input=given, capture_output=True, check=True, timeout=120)
    lines = done.stdout.decode().splitlines()
    said = [line.removeprefix("speaker: ") for line in lines if line.startswith("speaker: ")]
    answers = [line for line in lines if line.startswith("agent: ")]
    assert answers == [f"agent: I heard {len(text.split())} words." for text in said]
    assert difflib.SequenceMatcher(None, words(" ".join(said)).split(), BECKETT.split()).ratio() > 0.75


def test_the_voice_agent_throws_an_answer_away_when_speech_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [("Try", False, False), ("Try", True, False), ("Try again.", False, False), ("Try again.", True, False)]

    class Client:
        """A server that hears this, whatever is said."""

        def __init__(self, _: str) -> None: ...

        async def __aenter__(self) -> "Client":
            return self

        async def __aexit__(self, *_: object) -> None: ...

        def stream(self, *_: object, **options: object) -> "Client":
            assert options["turn_detection"] == "semantic"
            return self

        async def __aiter__(self) -> AsyncIterator[StreamEvent]:
            for text, pause, final in [*said, ("Try again.", False, True)]:
                await asyncio.sleep(0)  # what is prepared begins
                yield StreamEvent(0, text, "", final, 0, 1, pause=pause)

    monkeypatch.setattr("asrloop_client.AsyncAsrClient", Client)
    monkeypatch.setattr(sys, "argv", ["voice_agent.py", "localhost:8001"])
    runpy.run_path(str(EXAMPLES / "voice_agent.py"))
    assert capsys.readouterr().out.splitlines() == [
        "  (speech goes on)",
        "speaker: Try again.",
        "agent: I heard 2 words.",
    ]


def test_every_example_is_run_and_listed() -> None:
    files = {path.name for path in EXAMPLES.iterdir()} - {"README.md"}
    run_here = {
        "plain_triton_client.py",
        "blocking_client.py",
        "asyncio_client.py",
        "live_client.py",
        "voice_agent.py",
        "curl.sh",
    }
    assert files == run_here | {"bulk_ray.py"}  # which tests/test_bulk.py runs
    assert all(f"]({name})" in (EXAMPLES / "README.md").read_text() for name in files)
