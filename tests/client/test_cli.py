"""`asr-client` as a user runs it: output, exit codes, messages."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from asrloop_client.audio import SUFFIXES

from tests.client.stand_in import StandIn
from tests.client.stub import Stub
from tests.conftest import eventually


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-m", "asrloop_client.cli", *map(str, arguments)]
    variables = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment}
    return subprocess.run(command, env=variables, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.zeros(800, np.float32), 8000)
    return path


def test_one_file_gives_its_text_alone(stand_in: StandIn, speech: Path) -> None:
    result = run("transcribe", speech, "--server", stand_in.address)
    assert (result.returncode, result.stdout) == (0, f"{speech.stat().st_size} bytes\n")
    assert "1 transcribed, 0 failed, 0 skipped; 0.1 s of audio" in result.stderr


def test_several_come_in_order_and_a_bad_one_does_not_stop_the_rest(stand_in: StandIn, speech: Path) -> None:
    text = f"{speech.stat().st_size} bytes"
    other = speech.with_name("other.wav")
    other.write_bytes(speech.read_bytes())
    bad = speech.with_name("bad.wav")
    bad.write_bytes(b"no audio")
    result = run("transcribe", speech, bad, other, "-s", stand_in.address, "--concurrency", 2)
    assert result.returncode == 1
    assert result.stdout == f"{speech}: {text}\n{other}: {text}\n"
    assert f"error: {bad}: " in result.stderr
    assert "no audio file" in result.stderr


def test_json_has_one_object_a_line(stand_in: StandIn, speech: Path) -> None:
    result = run("transcribe", speech, "missing.wav", "--json", ASR_CLIENT_SERVERS=stand_in.address)
    assert result.returncode == 1
    good, bad = map(json.loads, result.stdout.splitlines())
    assert (good["file"], good["text"], good["tokens"]) == (str(speech), f"{speech.stat().st_size} bytes", [7])
    assert good["timings"]["call"] < good["timings"]["total"]
    assert (bad["file"], bad["error"]) == ("missing.wav", "UnreadableFile")


def test_no_pooling(stand_in: StandIn, speech: Path) -> None:
    assert run("transcribe", speech, "--no-pooling", "-s", stand_in.address).stdout.endswith("bytes\n")


def test_directories_and_patterns_are_written_once_and_skipped_when_there(stand_in: StandIn, speech: Path) -> None:
    here = speech.parent
    (here / "deep").mkdir()
    for name in ("speech.wav", "speech.flac"):
        (here / "deep" / name).write_bytes(speech.read_bytes())
    (here / "notes.txt").write_text("no audio")
    command = ("transcribe", ".", "--format", "srt", "--output-dir", "out", "-s", stand_in.address)
    first = run(*command, cwd=here)
    assert first.returncode == 0, first.stderr
    assert "3 transcribed, 0 failed, 0 skipped" in first.stderr
    assert "1 passed over, by their endings: notes.txt." in first.stderr
    written = {str(each.relative_to(here / "out")) for each in (here / "out").rglob("*.*")}
    assert written == {"speech.srt", "deep/speech.wav.srt", "deep/speech.flac.srt"}
    assert (here / "out" / "speech.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:00,100\n")
    assert "0 transcribed, 0 failed, 3 skipped" in run(*command, cwd=here).stderr
    one = run("transcribe", "speech.wav", "--format", "srt", "--output-dir", "out", "-s", stand_in.address, cwd=here)
    assert "0 transcribed, 0 failed, 1 skipped" in one.stderr
    away = run("transcribe", speech, "--output-dir", here / "out", "-s", stand_in.address, cwd=here / "deep")
    assert away.returncode == 0, away.stderr
    assert (here / "out" / speech.relative_to("/").with_suffix(".txt")).exists()
    pattern = run("transcribe", speech.parent / "*.wav", "--format", "vtt", "-s", stand_in.address)
    assert pattern.stdout.startswith("WEBVTT")


def test_every_known_ending_is_taken_from_a_directory_and_the_others_are_named(
    stand_in: StandIn, speech: Path, tmp_path: Path
) -> None:
    there = tmp_path / "many"
    there.mkdir()
    for number, suffix in enumerate(SUFFIXES):
        (there / f"{number}{suffix.upper() if number % 2 else suffix}").write_bytes(speech.read_bytes())
    for name in ("a.ape", "b.txt", "c.wv", "d", "e.json", "f.srt", "g.srt"):
        (there / name).write_text("other")
    done = run("transcribe", there, "-s", stand_in.address)
    assert done.returncode == 0, done.stderr
    assert f"{len(SUFFIXES)} transcribed, 0 failed" in done.stderr
    assert "7 passed over, by their endings: " in done.stderr
    assert "a.ape" in done.stderr
    assert "e.json and 2 more. Taken from directories: .3gp" in done.stderr


def test_what_is_done_is_written_though_an_earlier_file_is_not_and_stays(stand_in: StandIn, speech: Path) -> None:
    here = speech.parent
    os.mkfifo(here / "endless.wav")  # whoever reads it waits
    command = ("transcribe", "endless.wav", "speech.wav", "--output-dir", "out", "-s", stand_in.address)
    running = subprocess.Popen([sys.executable, "-m", "asrloop_client.cli", *command], cwd=here)
    try:
        assert eventually((here / "out" / "speech.txt").exists, 30)
    finally:
        running.kill()
        running.wait()
    (here / "endless.wav").unlink()
    (here / "endless.wav").write_bytes(speech.read_bytes())
    assert "1 transcribed, 0 failed, 1 skipped" in run(*command, cwd=here).stderr


def test_deep_health_asks_for_a_transcript(stand_in: StandIn) -> None:
    result = run("health", "--deep", "--json", "-s", stand_in.address)
    assert result.returncode == 0
    assert json.loads(result.stdout)["seconds"] > 0


def test_health_and_its_exit_codes(stand_in: StandIn) -> None:
    result = run("health", "-s", stand_in.address)
    assert result.returncode == 0
    assert "asr_ensemble" in result.stdout
    result = run("health", "-s", stand_in.address, "-s", "127.0.0.1:1", "--json")
    assert result.returncode == 1
    assert [json.loads(line)["ready"] for line in result.stdout.splitlines()] == [True, False]
    assert run("health", "-s", "127.0.0.1:1").returncode == 3


def test_no_server_is_exit_code_3_and_one_line(speech: Path) -> None:
    result = run("transcribe", speech, "-s", "127.0.0.1:1")
    assert result.returncode == 3
    assert result.stderr.startswith("error: 127.0.0.1:1: ")
    assert result.stderr.count("\n") == 1


def test_wrong_usage_is_exit_code_2(speech: Path) -> None:
    assert run("transcribe").returncode == 2
    result = run("transcribe", speech, "--private-key", "key.pem")
    assert result.returncode == 2
    assert "both or neither" in result.stderr


@pytest.mark.parametrize("command", ["transcribe", "stream", "health"])
def test_every_command_takes_every_connection_option(command: str) -> None:
    options = {
        "--server",
        "--token",
        "--token-header",
        "--tls",
        "--root-certificates",
        "--private-key",
        "--certificate-chain",
    }
    assert options <= set(run(command, "--help").stdout.split())


def test_key_terms_are_a_file_or_a_list(make_stub: Callable[..., Stub], speech: Path) -> None:
    stub = make_stub()
    terms = speech.with_name("terms")
    terms.write_text("\ufeffSzczecin\r\n\n  Brno \n", encoding="utf-8")
    for given in (terms, "Szczecin, Brno,"):
        done = run("transcribe", speech, "--key-terms", given, "--key-terms-boost", 2, "-s", stub.address)
        assert done.returncode == 0, done.stderr
    assert (stub.seen()["key_terms=Szczecin"], stub.seen()["Brno"], stub.seen()["key_terms_boost=2.0"]) == (2, 2, 2)
    assert not stub.seen()["word_times=True"]
    for wrong, said in (("", "has no term"), (" , ", "has no term"), ("names.txt", "there is no file names.txt")):
        for command in ("transcribe", "stream"):
            refused = run(command, speech, "--key-terms", wrong, "-s", stub.address)
            assert (refused.returncode, said in " ".join(refused.stderr.split())) == (2, True), refused.stderr


def test_language_task_and_prompt_are_sent(make_stub: Callable[..., Stub], speech: Path) -> None:
    stub = make_stub()
    options = ("--language", "de-AT", "--task", "translate", "--prompt", "before")
    assert run("transcribe", speech, *options, "-s", stub.address).returncode == 0
    assert {"language=de-AT", "task=translate", "prompt=before"} <= set(stub.seen())
    heard = json.loads(run("transcribe", speech, "--json", "-s", stub.address).stdout)
    assert heard["language"] is None, "this server says none"
    assert stub.seen()["task=translate"] == 1
    assert run("transcribe", speech, "--task", "sing", "-s", stub.address).returncode == 2


def test_subtitles_ask_for_times_of_words(make_stub: Callable[..., Stub], speech: Path) -> None:
    stub = make_stub()
    for options, asked in (
        (("--format", "srt"), 1),
        (("--format", "vtt"), 2),
        (("--format", "vtt", "--no-word-times"), 2),
        (("--json",), 2),
        (("--json", "--word-times"), 3),
    ):
        done = run("transcribe", speech, *options, "-s", stub.address)
        assert done.returncode == 0, done.stderr
        assert stub.seen()["word_times=True"] == asked
    assert run("transcribe", speech, "--format", "srt", "--max-line-width", 0, "-s", stub.address).returncode == 2


def test_help_names_the_commands_and_exit_codes() -> None:
    text = run("--help").stdout
    assert all(word in text for word in ("transcribe", "health", "Exit codes"))
