"""A model of several languages behind a real server and gateway, Whisper with random weights: what is asked, told and refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asrloop_client import AsrClient, InvalidOption
from numpy.typing import NDArray
from openai import BadRequestError, OpenAI

from asrloop.families import registry
from asrloop.onnx_files import bls_repository
from asrloop.tritonserver import template
from asrloop.tritonserver.process import TritonServer
from asrloop.turns import graph
from tests.conftest import StartServer
from tests.gateway.conftest import StartGateway

folders: Any = pytest.importorskip("tests.families.whisper.folders", reason="needs the family whisper")
pytestmark = pytest.mark.slow
SILENCE = np.zeros(16_000, np.float32)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with English, Chinese and German, and the one for execution_mode bls beside it."""
    root = tmp_path_factory.mktemp("languages")
    shape, loop = folders.MULTILINGUAL, root / "model_repository" / "decoder_loop" / "1"
    source = folders.HuggingFaceFolder(shape, folders.random_tensors(shape)).write(root / "source")
    template.provide(root / "model_repository")
    registry.build("whisper", source, loop, "fp32", lambda _: None)
    registry.provide_live(loop, root / "model_repository" / "asr_stream" / "1")
    graph.provide(root / "model_repository" / "asr_stream" / "1")
    bls_repository.write(loop, root / "bls_repository")
    return root / "model_repository"


@pytest.fixture(scope="module")
def served(start_server: StartServer, repository: Path) -> Iterator[TritonServer]:
    with start_server(repository) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: TritonServer) -> Iterator[AsrClient]:
    with AsrClient(served.grpc_endpoint, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def long(beckett: NDArray[np.float32]) -> NDArray[np.float32]:
    """A minute, which is cut into windows."""
    return np.tile(np.pad(beckett, (0, 24_000)), 5)


def test_a_language_is_found_or_told_and_silence_has_none(
    client: AsrClient, beckett: NDArray[np.float32], long: NDArray[np.float32]
) -> None:
    found = client.transcribe(beckett)
    assert found.language in ("en", "zh", "de")
    assert client.transcribe(long).language == found.language
    assert client.transcribe(SILENCE).language is None
    for given, code in (("de-AT", "de"), ("zh-Hant-TW", "zh")):
        for audio in (beckett, long, SILENCE):
            assert client.transcribe(audio, language=given).language == code
    with pytest.raises(InvalidOption, match="language is 'fr': the served model has en, zh, de"):
        client.transcribe(beckett, language="fr")


def test_a_prompt_changes_what_is_heard(client: AsrClient, beckett: NDArray[np.float32]) -> None:
    plain, behind = (client.transcribe(beckett, language="en", prompt=prompt) for prompt in ("", "Szczecin"))
    assert plain.tokens != behind.tokens


def test_a_stream_takes_language_and_prompt(client: AsrClient, beckett: NDArray[np.float32]) -> None:
    chunks = [np.pad(beckett, (8_000, 16_000))[at : at + 1600] for at in range(0, beckett.size + 24_000, 1600)]
    for asked in ({}, {"language": "de"}, {"prompt": "Names: Szczecin."}):
        with client.stream(chunks, **asked) as events:
            assert [event for event in events if event.final]
    with pytest.raises(InvalidOption, match="language is 'fr'"), client.stream(chunks, language="fr") as events:
        list(events)


def test_the_gateway_translates_and_names_the_language(
    start_gateway: StartGateway, served: TritonServer, beckett_path: Path
) -> None:
    asked: Any = {"file": ("b.wav", beckett_path.read_bytes()), "model": "any", "response_format": "verbose_json"}
    with (
        start_gateway(served.grpc_endpoint) as gateway,
        OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=120) as openai,
    ):
        german = openai.audio.transcriptions.create(**asked, language="de", prompt="Szczecin")
        with pytest.warns(DeprecationWarning, match="deprecated"):
            english = openai.audio.translations.create(**asked, extra_body={"language": "de"})
        assert (german.language, english.language) == ("german", "english")
        with pytest.raises(BadRequestError, match="the served model has en, zh, de"):
            openai.audio.transcriptions.create(**asked, language="fr")


def test_bls_finds_the_same_or_refuses(
    start_server: StartServer, client: AsrClient, repository: Path, long: NDArray[np.float32]
) -> None:
    config = repository / "decoder_loop" / "config.pbtxt"
    before = config.read_text()
    config.write_text(before.replace('"in_process"', '"bls"'))
    try:
        with start_server(repository) as running, AsrClient(running.grpc_endpoint, timeout=120) as bls:
            for asked in ({}, {"language": "de"}, {"task": "translate"}, {"prompt": "Szczecin"}, {"key_terms": ["a"]}):
                here = client.transcribe(long, **asked)
                try:
                    there = bls.transcribe(long, **asked)
                except InvalidOption:
                    continue
                assert (there.text, there.language) == (here.text, here.language), asked
    finally:
        config.write_text(before)
