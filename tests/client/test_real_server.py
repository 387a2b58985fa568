"""The clients against the project's own models: real speech, real text."""

import asyncio
import contextlib
import io
import itertools
import json
import os
import pty
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from asrloop_client import (
    AsrClient,
    AsyncAsrClient,
    Cancelled,
    CancelToken,
    DeadlineExceeded,
    InvalidAudio,
    InvalidOption,
    Progress,
)
from numpy.typing import NDArray

from asrloop.tritonserver.process import TritonServer
from tests.audio import zoo
from tests.conftest import BECKETT, eventually

Connect = Callable[..., Any]


def counted(server: TritonServer, outcome: str) -> float:
    with urllib.request.urlopen(server.metrics_url) as response:
        found = re.search(rf'asrloop_requests_total\{{.*outcome="{outcome}".*\}} (\S+)', response.read().decode())
    return float(found[1]) if found else 0.0


def words(text: str) -> list[str]:
    """Without what machines differ in: int8 kernels round differently, which moves a comma before it changes a word."""
    return re.findall("[a-z]+", text.lower())


@pytest.fixture
def two_minutes(beckett: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.tile(beckett, 12)


def part_of_the_time(server: TritonServer, samples: NDArray[np.float32]) -> float:
    """Seconds after which a transcription of `samples` is running at the server, also when the machine is less busy then."""
    with AsrClient(server.grpc_endpoint) as client:
        return min(client.transcribe(samples[: samples.size // 6]).timings.call for _ in range(2))


def test_a_file_its_bytes_and_its_samples_give_the_text(
    connect: Connect, server: TritonServer, beckett_path: Path, beckett: NDArray[np.float32]
) -> None:
    client = connect(server.grpc_endpoint)
    from_path = client.transcribe(beckett_path)
    assert words(from_path.text) == words(BECKETT)
    assert words(client.transcribe(beckett_path.read_bytes()).text) == words(BECKETT)
    assert client.transcribe(beckett, sample_rate=16_000).tokens == from_path.tokens
    assert from_path.duration == pytest.approx(beckett.size / 16_000)
    assert from_path.confidence is not None


def test_the_length_is_that_of_what_was_decoded(
    connect: Connect, server: TritonServer, beckett: NDArray[np.float32]
) -> None:
    client = connect(server.grpc_endpoint)
    twice = zoo.encoded(beckett, 16_000, "OGG", "VORBIS") * 2
    heard = client.transcribe(twice)
    assert " ".join(words(heard.text)).count("ever tried ever failed no matter try again") == 2
    assert heard.duration == pytest.approx(2 * beckett.size / 16_000, abs=0.001)
    assert heard.complete
    endless = client.transcribe(zoo.flac_without_total(beckett))
    assert (words(endless.text), endless.duration) == (words(BECKETT), pytest.approx(beckett.size / 16_000))
    torn = client.transcribe(zoo.piped_wav(beckett, 2 * beckett.size + 192_000))
    assert (words(torn.text), torn.complete) == (words(BECKETT), False)
    assert torn.duration == pytest.approx(beckett.size / 16_000)
    assert client.transcribe(zoo.piped_wav(beckett, 2 * beckett.size + 44)).complete
    phase = zoo.encoded(np.column_stack([beckett, -beckett]), 16_000, "WAV", "PCM_16")
    assert words(client.transcribe(phase).text) == words(BECKETT)


@pytest.mark.parametrize(
    ("samples", "sample_rate"),
    [
        (np.zeros(0, np.float32), 16_000),
        (np.full(1600, np.nan, np.float32), 16_000),
        (np.full(1600, np.inf, np.float32), 16_000),
        (np.zeros(1600, np.float32), 7),
        (np.zeros(8_000 * 3601, np.float32), 8_000),
    ],
    ids=["empty", "nan", "infinity", "rate", "length"],
)
def test_bad_audio_is_invalid_audio(
    connect: Connect, server: TritonServer, samples: NDArray[np.float32], sample_rate: int
) -> None:
    with pytest.raises(InvalidAudio):
        connect(server.grpc_endpoint).transcribe(samples, sample_rate=sample_rate)


def test_the_deadline_reaches_the_model_through_the_ensemble(
    connect: Connect, server: TritonServer, two_minutes: NDArray[np.float32]
) -> None:
    before = counted(server, "deadline")
    # A cancel that went to the right model would come at the same time.
    client = connect(server.grpc_endpoint, loop_model="nothing")
    with pytest.raises(DeadlineExceeded):
        client.transcribe(two_minutes, timeout=part_of_the_time(server, two_minutes))
    assert eventually(lambda: counted(server, "deadline") > before)


def test_cancelling_raises_the_servers_cancelled_counter(
    server: TritonServer, beckett: NDArray[np.float32], two_minutes: NDArray[np.float32]
) -> None:
    seconds = part_of_the_time(server, two_minutes)
    before = counted(server, "cancelled")
    with AsrClient(server.grpc_endpoint) as client:
        for _ in range(3):
            token = CancelToken()
            threading.Timer(seconds, token.cancel).start()
            with pytest.raises(Cancelled):
                client.transcribe(two_minutes, cancel=token)
        assert eventually(lambda: counted(server, "cancelled") > before)
        assert words(client.transcribe(beckett).text) == words(BECKETT)


async def cancel_a_task(address: str, samples: NDArray[np.float32], seconds: float) -> None:
    async with AsyncAsrClient(address) as client:
        task = asyncio.create_task(client.transcribe(samples))
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_cancelling_a_task_raises_the_servers_cancelled_counter(
    server: TritonServer, two_minutes: NDArray[np.float32]
) -> None:
    seconds = part_of_the_time(server, two_minutes)
    before = counted(server, "cancelled")
    for _ in range(3):
        asyncio.run(cancel_a_task(server.grpc_endpoint, two_minutes, seconds))
    assert eventually(lambda: counted(server, "cancelled") > before)


def long_file(beckett: NDArray[np.float32], count: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.tile(np.pad(beckett, (0, 24_000)), count), 16_000, format="FLAC")
    return buffer.getvalue()


def test_a_long_file_has_segments_and_tells_how_far_it_is(
    connect: Connect, server: TritonServer, beckett: NDArray[np.float32]
) -> None:
    told: list[Progress] = []
    count = 40
    heard = connect(server.grpc_endpoint).transcribe(
        long_file(beckett, count), request_id="mine", timeout=120, on_progress=told.append
    )
    assert heard.text.lower().count("no matter") == count
    assert len(heard.segments) >= count
    assert heard.text == " ".join(segment.text for segment in heard.segments)
    assert heard.to_srt().count(" --> ") == len(heard.segments)
    assert told
    seconds = count * (beckett.size + 24_000) / 16_000
    assert {(far.request_id, round(far.known)) for far in told} == {("mine", round(seconds))}
    assert 0 < told[-1].done <= seconds + 0.01
    assert [far.done for far in told] == sorted(far.done for far in told)
    assert told[-1].text
    for text, longer in itertools.pairwise([*(far.text for far in told), heard.text]):
        assert longer.startswith(text)


@pytest.mark.slow
def test_the_bar_moves_while_one_file_is_transcribed(
    server: TritonServer, beckett: NDArray[np.float32], tmp_path: Path
) -> None:
    path = tmp_path / "long.flac"
    path.write_bytes(long_file(beckett, 60))
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "asrloop_client.cli", "transcribe", path, "--server", server.grpc_endpoint]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=end, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(end)
        shown = b""
        with contextlib.suppress(OSError):  # what a terminal gives when nobody writes to it any more
            while chunk := os.read(terminal, 4096):
                shown += chunk
        assert process.wait(60) == 0
    os.close(terminal)
    shares = {int(share) for share in re.findall(rb"(\d+)%", shown)}
    assert any(0 < share < 100 for share in shares), shown[-2000:]


def test_live_audio_gives_the_words_in_whatever_chunks_it_comes(
    server: TritonServer, beckett: NDArray[np.float32]
) -> None:
    with AsrClient(server.grpc_endpoint) as client:
        for size in (1600, 48_000):
            pieces = [beckett[at : at + size] for at in range(0, beckett.size, size)]
            with client.stream(pieces) as stream:
                events = list(stream)
            finals = [event for event in events if event.final]
            assert words(" ".join(event.stable for event in finals)) == words(BECKETT)
            assert [event.segment for event in finals] == list(range(len(finals)))
            assert not any(event.tail for event in finals)


def test_words_have_times_within_the_audio_and_the_text_is_the_same(
    connect: Connect, server: TritonServer, beckett: NDArray[np.float32]
) -> None:
    client = connect(server.grpc_endpoint)
    plain, timed = client.transcribe(beckett), client.transcribe(beckett, word_times=True)
    assert (timed.text, timed.tokens) == (plain.text, plain.tokens)
    assert plain.words == ()
    assert " ".join(word.text for word in timed.words) == timed.text
    ends = [end for word in timed.words for end in (word.start, word.end)]
    assert ends == sorted(ends)
    assert 0 <= ends[0] < ends[-1] <= timed.duration
    assert all(word.end > word.start for word in timed.words)
    assert all(0 < word.confidence <= 1 for word in timed.words)


def test_subtitles_have_lines_that_can_be_read(
    connect: Connect, server: TritonServer, beckett: NDArray[np.float32]
) -> None:
    heard = connect(server.grpc_endpoint).transcribe(long_file(beckett, 3), word_times=True)
    blocks = [block.split("\n") for block in heard.to_srt().strip().split("\n\n")]
    assert len(blocks) > len(heard.segments)
    assert max(len(block) for block in blocks) <= 4
    assert max(len(line) for block in blocks for line in block[2:]) <= 42
    assert " ".join(line for block in blocks for line in block[2:]) == heard.text


def test_key_terms_are_taken_and_wrong_ones_are_invalid_options(
    connect: Connect, server: TritonServer, beckett: NDArray[np.float32]
) -> None:
    client = connect(server.grpc_endpoint)
    heard = client.transcribe(beckett, key_terms=["Szczecin", "Samuel Beckett"], key_terms_boost=1.5)
    assert words(heard.text) == words(BECKETT)
    for wrong in ({"key_terms": ["x" * 65]}, {"key_terms": ["a"] * 101}, {"key_terms_boost": 11}):
        with pytest.raises(InvalidOption):
            client.transcribe(beckett, **wrong)


def test_the_command_writes_words_and_subtitles(server: TritonServer, beckett_path: Path) -> None:
    command = [sys.executable, "-m", "asrloop_client.cli", "transcribe", beckett_path, "-s", server.grpc_endpoint]
    done = subprocess.run([*command, "--json", "--word-times"], capture_output=True, text=True, check=True)
    heard = json.loads(done.stdout)
    assert [word["text"] for word in heard["words"]] == heard["text"].split()
    assert set(heard["words"][0]) == {"text", "start", "end", "confidence", "speaker"}
    options = ["--format", "vtt", "--max-line-width", "20", "--key-terms", "Samuel Beckett"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines()[1:] if line and " --> " not in line]
    assert max(map(len, lines)) <= 20
    assert words(" ".join(lines)) == words(BECKETT)


def test_finals_of_live_audio_have_their_words_where_asked(server: TritonServer, beckett: NDArray[np.float32]) -> None:
    samples = np.concatenate([beckett, np.zeros(16_000, np.float32), beckett])
    pieces = [samples[at : at + 1600] for at in range(0, samples.size, 1600)]
    asked: dict[str, Any] = {"word_times": True, "key_terms": ["Szczecin"], "key_terms_boost": 1.5}
    with AsrClient(server.grpc_endpoint) as client, client.stream(pieces, **asked) as stream:
        events = list(stream)
    assert not any(event.words for event in events if not event.final)
    finals = [event for event in events if event.final]
    for event in finals:
        assert words(" ".join(word.text for word in event.words)) == words(event.stable)
        assert all(event.start <= word.start <= word.end <= event.heard for word in event.words)
    starts = [word.start for event in finals for word in event.words]
    assert starts == sorted(starts)
    assert starts[-1] > beckett.size / 16_000 + 1
