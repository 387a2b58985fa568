"""`asr-client stream` as a user runs it: files, standard input, Ctrl-C, a terminal."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from asrloop_client import StreamEvent
from asrloop_client.cli import app
from asrloop_client.cli.stream import open_text
from asrloop_client.live.call import StreamCall
from typer.testing import CliRunner

from tests.audio import zoo
from tests.client.stand_in import StandIn
from tests.client.test_stream import RATE, TEN_WORDS, WORD, audio
from tests.conftest import eventually

COMMAND = [sys.executable, "-W", "error", "-m", "asrloop_client.cli", "stream"]
VARIABLES = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


def run(*arguments: object, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, env=VARIABLES, input=given, capture_output=True, timeout=60)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "ten.wav"
    soundfile.write(path, audio(10), RATE, subtype="PCM_16")
    return path


def pcm(words: int) -> bytes:
    return (audio(words) * 32768).astype("<i2").tobytes()


def test_a_file_gives_a_line_for_each_segment(stand_in: StandIn, recording: Path) -> None:
    result = run(recording, "-s", stand_in.address, "--speed", 10)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode().splitlines() == TEN_WORDS


def test_flac_of_unknown_length_and_flac_that_is_cut_are_played(stand_in: StandIn, tmp_path: Path) -> None:
    assert RATE == 16_000
    whole = zoo.flac_without_total(audio(10))
    for name, content in (("endless.flac", whole), ("cut.flac", whole[:-20])):
        (tmp_path / name).write_bytes(content)
        result = run(tmp_path / name, "-s", stand_in.address, "--speed", 10)
        assert result.returncode == 0, result.stderr
        assert b"Traceback" not in result.stderr
        assert result.stdout.decode().splitlines()[0] == TEN_WORDS[0]
    assert b"cut short" in result.stderr


def test_without_soundfile_a_wav_file_is_played(stand_in: StandIn, recording: Path, tmp_path: Path) -> None:
    (tmp_path / "soundfile.py").write_text("raise ImportError")
    variables = {**VARIABLES, "PYTHONPATH": str(tmp_path)}
    command = [*COMMAND, str(recording), "-s", stand_in.address, "--speed", "10"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == TEN_WORDS, done.stderr
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    command[len(COMMAND)] = str(tmp_path / "bad.wav")
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "cannot be played" in done.stderr


def test_json_gives_a_line_for_each_event(stand_in: StandIn, recording: Path) -> None:
    result = run(recording, "-s", stand_in.address, "--format", "json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["stable"] for each in events if each["final"]] == TEN_WORDS
    for each in events:
        assert set(each) == {"segment", "stable", "tail", "final", "start", "heard", "words", "pause", "turn"}
    assert not all(each["final"] for each in events), "of partials a busy machine may show the latest only"
    assert not any(each["words"] for each in events)


def test_words_and_their_times_come_with_finals_where_asked(stand_in: StandIn, recording: Path) -> None:
    options = ("--format", "json", "--word-times", "--key-terms", "Szczecin,Brno", "--key-terms-boost", 1)
    result = run(recording, "-s", stand_in.address, "--speed", 10, *options)
    assert result.returncode == 0, result.stderr
    words = [word for line in result.stdout.splitlines() for word in json.loads(line)["words"]]
    assert [word["text"] for word in words] == " ".join(TEN_WORDS).split()
    assert (words[1]["start"], words[1]["end"], round(words[1]["confidence"], 2)) == (0.25, 0.5, 0.01)


def test_raw_pcm_comes_from_standard_input(stand_in: StandIn) -> None:
    assert run("-", "-s", stand_in.address, given=pcm(10)).stdout.decode().splitlines() == TEN_WORDS
    half = run("-", "-s", stand_in.address, "--rate", RATE // 2, given=pcm(2))
    assert half.stdout == b"0.00 0.00 0.01 0.01\n"


def test_ctrl_c_ends_the_audio_and_the_last_words_come(stand_in: StandIn) -> None:
    command = [*COMMAND, "-", "-s", stand_in.address, "--format", "json"]
    running = subprocess.Popen(command, env=VARIABLES, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(pcm(6))
        running.stdin.flush()
        lines = [json.loads(running.stdout.readline())]
        while lines[-1]["heard"] < 1.5:
            lines.append(json.loads(running.stdout.readline()))
        running.send_signal(signal.SIGINT)
        last = json.loads(running.stdout.read())
        assert (last["final"], last["stable"]) == (True, "0.04 0.05")
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.communicate()
    assert eventually(lambda: stand_in.metric("stand_in_streams") == 0)


def test_on_a_terminal_the_open_segment_stands_below(stand_in: StandIn, recording: Path) -> None:
    ours, theirs = pty.openpty()
    variables = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    variables.pop("NO_COLOR", None)
    command = [*COMMAND, str(recording), "-s", stand_in.address, "--speed", "3"]
    with subprocess.Popen(command, env=variables, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        shown = read_all(ours)
    assert running.returncode == 0
    # Of partials a busy machine may show the latest only.
    assert re.search(r"0\.\d\d \x1b\[2m0\.\d\d\x1b\[0m", shown)
    assert all(f"{line}\r\n" in shown for line in TEN_WORDS)


def test_what_may_change_is_dim_and_a_pause_is_marked() -> None:
    def shown(**event: Any) -> tuple[str, str]:
        text = open_text(StreamEvent(0, final=False, start=0, heard=1, **event))
        dim = "".join(text.plain[span.start : span.end] for span in text.spans if span.style == "dim")
        return text.plain, dim

    assert shown(stable="ever tried", tail="ever") == ("ever tried ever", "ever")
    assert shown(stable="ever tried", tail="ever failed.", pause=True) == (
        "ever tried ever failed. …",
        "ever failed. …",
    )
    assert shown(stable="ever tried", tail="", pause=True) == ("ever tried …", " …")
    assert shown(stable="", tail="") == ("", "")
    assert open_text(StreamEvent(0, "ever tried", "", final=True, start=0, heard=1, pause=True)).plain == ""


def test_what_ends_a_turn_goes_to_the_server(
    stand_in: StandIn, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    write = StreamCall.write

    async def noted(call: StreamCall, request: Any) -> bool:
        written.append(request)
        return await write(call, request)

    monkeypatch.setattr(StreamCall, "write", noted)
    options = "--turn semantic --turn-threshold 0.7 --longest-pause-ms 2000 --silence-ms 300 --speech-threshold 0.4"
    command = ["stream", str(recording), "-s", stand_in.address, "--speed", "10", *options.split(), "--padding-ms", "0"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    start = written[0].parameters
    assert start["turn_detection"].string_param == "semantic"
    assert (start["turn_threshold"].double_param, start["speech_threshold"].double_param) == (0.7, 0.4)
    whole = [start[name].int64_param for name in ("longest_pause_ms", "silence_ms", "padding_ms")]
    assert whole == [2000, 300, 0]
    assert start["padding_ms"].WhichOneof("parameter_choice") == "int64_param", "0 is asked for too"


def read_all(descriptor: int) -> str:
    shown = b""
    try:
        while read := os.read(descriptor, 65536):
            shown += read
    except OSError:  # Linux says so when the other side is closed
        pass
    os.close(descriptor)
    return shown.decode()


def test_errors_are_one_line_and_an_exit_code(stand_in: StandIn, recording: Path) -> None:
    missing = run("missing.flac", "-s", stand_in.address)
    assert (missing.returncode, missing.stdout) == (1, b"")
    assert missing.stderr.startswith(b"error: missing.flac cannot be played")
    assert missing.stderr.count(b"\n") == 1
    assert run(recording, "-s", "127.0.0.1:1").returncode == 3


@pytest.mark.slow
def test_a_lost_server_is_replaced(make_stand_in: Callable[..., StandIn], tmp_path: Path) -> None:
    servers = [make_stand_in(), make_stand_in()]
    path = tmp_path / "long.wav"
    soundfile.write(path, np.repeat(np.arange(24, dtype=np.float32) / 100, WORD), RATE, subtype="PCM_16")
    command = [*COMMAND, str(path), *(word for each in servers for word in ("-s", each.address))]
    running = subprocess.Popen(command, env=VARIABLES, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert eventually(lambda: any(each.metric("stand_in_streams") for each in servers), 30)
    time.sleep(2)
    next(each for each in servers if each.metric("stand_in_streams")).kill()
    out, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    assert out.split() == [f"{word / 100:.2f}" for word in range(24)]
