"""A real tritonserver serves a NeMo directory: the same models, the same client, and the times of the tokens."""

import shutil
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from asrloop.families import registry
from asrloop.onnx_files import bls_repository
from asrloop.tritonserver.process import TritonServer
from tests.conftest import StartServer, words
from tests.families.conftest import Samples
from tests.families.transducer.conftest import SLOTS, TINY, Open
from tests.families.transducer.decoding import decode
from tests.model_repository.test_live import Caller, play, text


@pytest.fixture(scope="module", params=["in_process", "bls"])
def nemo_server(
    request: pytest.FixtureRequest,
    start_server: StartServer,
    model_repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TritonServer]:
    repository = tmp_path_factory.mktemp("served") / "model_repository"
    shutil.copytree(model_repository, repository, ignore=shutil.ignore_patterns("__pycache__"))
    registry.build("transducer", TINY, repository / "decoder_loop" / "1")
    bls_repository.write(repository / "decoder_loop" / "1", repository.parent / "bls_repository")
    config = repository / "decoder_loop" / "config.pbtxt"
    config.write_text(config.read_text().replace('"in_process"', f'"{request.param}"'))
    with start_server(repository) as running:
        yield running


def test_texts_tokens_and_times(
    nemo_server: TritonServer, open_directory: Open, synthetic: list[tuple[str, Samples]]
) -> None:
    family = open_directory(TINY)
    utterances = [samples for _, samples in synthetic[:6]]
    with triton_grpc.InferenceServerClient(nemo_server.grpc_endpoint) as client:
        for samples, expected in zip(utterances, decode(family, utterances, SLOTS), strict=True):
            wav = triton_grpc.InferInput("WAV", [1, samples.size], "FP32")
            wav.set_data_from_numpy(samples[None])
            result = client.infer("asr_ensemble", [wav], client_timeout=60)
            assert result.as_numpy("TRANSCRIPTS")[0, 0].decode() == family.text(expected.tokens)
            assert result.as_numpy("TOKENS")[0].tolist() == expected.tokens
            np.testing.assert_allclose(result.as_numpy("TOKEN_TIMES")[0], expected.times, atol=1e-6)


def test_a_batch_of_different_lengths(
    nemo_server: TritonServer, open_directory: Open, synthetic: list[tuple[str, Samples]]
) -> None:
    family = open_directory(TINY)
    utterances = [samples for _, samples in synthetic[:4]]
    lengths = np.array([[len(one)] for one in utterances], np.int32)
    padded = np.zeros((4, lengths.max()), np.float32)
    for row, one in zip(padded, utterances, strict=True):
        row[: len(one)] = one
    inputs = [triton_grpc.InferInput("WAV", padded.shape, "FP32"), triton_grpc.InferInput("WAV_LENS", [4, 1], "INT32")]
    inputs[0].set_data_from_numpy(padded)
    inputs[1].set_data_from_numpy(lengths)
    with triton_grpc.InferenceServerClient(nemo_server.grpc_endpoint) as client:
        texts = client.infer("asr_ensemble", inputs, client_timeout=60).as_numpy("TRANSCRIPTS")
    expected = [family.text(one.tokens) for one in decode(family, utterances, SLOTS)]
    assert [text.decode() for text in texts.reshape(-1)] == expected


def test_live_audio_gets_the_words_of_its_segments(
    nemo_server: TritonServer, synthetic: list[tuple[str, Samples]]
) -> None:
    """Whole segments are decoded, for a transducer takes no drafts; what was said before is not said again."""
    pause = np.zeros(12_000, np.float32)
    parts = synthetic[:4]
    samples = np.concatenate([part for _, one in parts for part in (one, pause)])
    caller = Caller(nemo_server)
    heard = text(play(caller, samples))
    caller.close()
    expected = words(" ".join(said for said, _ in parts))
    assert abs(len(heard.split()) - len(expected.split())) <= len(expected.split()) / 4
    assert SequenceMatcher(None, heard.split(), expected.split(), autojunk=False).ratio() > 0.6
