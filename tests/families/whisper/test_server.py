"""A real tritonserver serves Whisper: files, times of words, live audio, and a loop whose graphs run in other processes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from asrloop_client import AsrClient
from numpy.typing import NDArray

from asrloop.families import registry
from asrloop.onnx_files import bls_repository
from asrloop.tritonserver.process import TritonServer
from asrloop.turns import graph
from tests.conftest import BECKETT, StartServer, words
from tests.model_repository.test_live import Caller, play, text

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["in_process", "bls"])
def whisper_server(
    request: pytest.FixtureRequest,
    start_server: StartServer,
    model_repository: Path,
    tiny_en: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TritonServer]:
    repository = tmp_path_factory.mktemp("served") / "model_repository"
    shutil.copytree(model_repository, repository, ignore=shutil.ignore_patterns("__pycache__"))
    loop = repository / "decoder_loop" / "1"
    registry.build("whisper", tiny_en, loop, "fp32", lambda line: None)
    registry.provide_live(loop, repository / "asr_stream" / "1")
    graph.provide(repository / "asr_stream" / "1")
    bls_repository.write(loop, repository.parent / "bls_repository")
    config = repository / "decoder_loop" / "config.pbtxt"
    config.write_text(config.read_text().replace('"in_process"', f'"{request.param}"'))
    with start_server(repository) as running:
        yield running


def test_a_file_and_the_times_of_its_words(whisper_server: TritonServer, beckett_path: Path) -> None:
    with AsrClient(whisper_server.grpc_endpoint) as client:
        plain = client.transcribe(beckett_path)
        timed = client.transcribe(beckett_path, word_times=True)
    assert words(plain.text) == words(timed.text) == BECKETT
    starts = [word.start for word in timed.words]
    assert starts == sorted(starts)
    assert 0.5 < starts[-1] < 10.0


def test_live_audio(whisper_server: TritonServer, beckett: NDArray[np.float32]) -> None:
    caller = Caller(whisper_server)
    heard = text(play(caller, beckett))
    caller.close()
    assert words(heard) == BECKETT
