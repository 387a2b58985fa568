"""What browsers, phones and cameras write gets the right words from a real server; one that is hurt costs its request alone."""

import os
import signal
import threading
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from asrloop.audio import ffmpeg_worker
from asrloop.tritonserver.process import TritonServer
from asrloop.tritonserver.processes import model_processes
from tests.audio.recordings import RECORDINGS, recorded
from tests.conftest import BECKETT, eventually, words


@pytest.fixture(scope="module")
def client(server: TritonServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc_endpoint) as client:
        yield client


def transcribed(client: triton.InferenceServerClient, content: bytes) -> tuple[str, bool]:
    tensor = triton.InferInput("AUDIO", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[content]], np.object_))
    answer = client.infer("asr_file", [tensor], client_timeout=120)
    return words(answer.as_numpy("TRANSCRIPTS")[0, 0].decode()), bool(answer.as_numpy("COMPLETE")[0, 0])


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_has_the_right_words(
    name: str, client: triton.InferenceServerClient, beckett: NDArray[np.float32]
) -> None:
    text, is_complete = transcribed(client, RECORDINGS[name](beckett))
    # At the rates of telephones one word may be heard as another.
    assert differing(text, BECKETT) <= ("AMR" in name)
    assert is_complete


def differing(text: str, expected: str) -> int:
    """How many words are other ones."""
    pairs = zip_longest(text.split(), expected.split())
    return sum(said != wanted for said, wanted in pairs)


def test_a_long_one_is_read_to_its_end_and_one_that_is_cut_is_not_complete(
    client: triton.InferenceServerClient, beckett: NDArray[np.float32]
) -> None:
    content = recorded(np.tile(beckett, 6), "mp4", "aac", rate=16_000, options={"movflags": "faststart"})
    text, is_complete = transcribed(client, content)
    assert differing(text, " ".join([BECKETT] * 6)) <= 4  # it is cut elsewhere than between two of them
    assert is_complete
    text, is_complete = transcribed(client, content[: len(content) * 3 // 4])
    assert 4 * 12 <= len(text.split()) < 5 * 12
    assert not is_complete


def forked(server: TritonServer) -> list[int]:
    """Process ids that decode recordings for that server."""
    program = ffmpeg_worker.__file__.encode()
    frontend = model_processes(server.pid)["audio_frontend"]
    found = []
    for child in Path(f"/proc/{frontend}/task").glob("*/children"):
        for pid in child.read_text().split():
            if program in Path(f"/proc/{pid}/cmdline").read_bytes():
                found += [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found


def test_a_crash_costs_its_request_alone(
    server: TritonServer, client: triton.InferenceServerClient, beckett: NDArray[np.float32]
) -> None:
    long = recorded(np.tile(beckett, 30), "adts", "aac", rate=16_000)
    errors: list[str] = []

    def ask() -> None:
        try:
            transcribed(client, long)
        except InferenceServerException as error:
            errors.append(error.message())

    before = model_processes(server.pid)
    asking = threading.Thread(target=ask)
    asking.start()
    assert eventually(lambda: forked(server))
    (pid,) = forked(server)
    assert transcribed(client, RECORDINGS["M4A, AAC"](beckett)) == (BECKETT, True)
    os.kill(pid, signal.SIGSEGV)
    asking.join(60)
    assert len(errors) == 1
    assert "[invalid_audio] AUDIO is AAC that ends its decoder" in errors[0]
    assert transcribed(client, RECORDINGS["M4A, AAC"](beckett)) == (BECKETT, True)
    assert model_processes(server.pid) == before
