"""Through a real server: silence and noise give no text, and every transcript says how far to trust it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray

from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT, StartServer, words
from tests.model_repository.test_contract import encoded, eventually, metric, settled

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def grpc(server: TritonServer) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:
        yield client


def answer(
    client: triton_grpc.InferenceServerClient, wav: Samples, lengths: list[int] | None = None
) -> list[tuple[str, int, float, bool]]:
    """Words, number of tokens, CONFIDENCE and COMPLETE of each row."""
    inputs = [triton_grpc.InferInput("WAV", wav.shape, "FP32")]
    inputs[0].set_data_from_numpy(wav)
    if lengths is not None:
        inputs.append(triton_grpc.InferInput("WAV_LENS", [len(lengths), 1], "INT32"))
        inputs[1].set_data_from_numpy(np.array(lengths, np.int32)[:, None])
    result = client.infer("asr_ensemble", inputs, client_timeout=60)
    texts, tokens = result.as_numpy("TRANSCRIPTS")[:, 0], result.as_numpy("TOKENS")
    sure, complete = result.as_numpy("CONFIDENCE"), result.as_numpy("COMPLETE")
    assert sure.shape == complete.shape == (len(wav), 1)
    assert (sure.dtype, complete.dtype) == (np.float32, np.bool_)
    return [
        (words(text.decode()), int((row >= 0).sum()), float(one), bool(whole))
        for text, row, one, whole in zip(texts, tokens, sure[:, 0], complete[:, 0], strict=True)
    ]


@pytest.mark.parametrize("seconds", [0.1, 1, 10, 30])
def test_silence_and_noise_are_empty(
    server: TritonServer, grpc: triton_grpc.InferenceServerClient, seconds: float
) -> None:
    count = int(seconds * 16_000)
    before = settled(lambda: metric(server, "asrloop_no_speech_total"))
    nothing = np.zeros((3, count), np.float32)
    nothing[1] = np.random.default_rng(0).standard_normal(count) * 1e-3
    nothing[2] = 0.1 * np.sin(2 * np.pi * 50 * np.arange(count) / 16_000)
    assert answer(grpc, nothing) == [("", 0, 0.0, True)] * 3
    assert eventually(lambda: metric(server, "asrloop_no_speech_total") == before + 3)


def test_silence_beside_speech_leaves_the_speech_alone(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    batch = np.zeros((2, beckett.size), np.float32)
    batch[1] = beckett / 30
    silent, (text, tokens, sure, complete) = answer(grpc, batch, [20_000, beckett.size])
    assert silent == ("", 0, 0.0, True)
    assert (text, complete) == (BECKETT, True)
    assert tokens > 12
    assert 0.7 < sure <= 1


def test_a_silent_file_is_empty(grpc: triton_grpc.InferenceServerClient) -> None:
    content = encoded(np.zeros(44_100, np.int16), 44_100, "WAV", "PCM_16")
    inputs = [triton_grpc.InferInput("AUDIO", [1, 1], "BYTES")]
    inputs[0].set_data_from_numpy(np.array([[content]], np.object_))
    result = grpc.infer("asr_file", inputs, client_timeout=60)
    assert result.as_numpy("TRANSCRIPTS")[0, 0] == b""
    assert result.as_numpy("CONFIDENCE")[0, 0] == 0


@pytest.mark.slow
def test_who_wants_everything_decoded_gets_what_the_model_makes_of_silence(
    start_server: StartServer, model_repository: Path, beckett: Samples
) -> None:
    with (
        start_server(model_repository, ASRLOOP_AUDIO__SPEECH_THRESHOLD="0") as deaf,
        triton_grpc.InferenceServerClient(deaf.grpc_endpoint) as client,
    ):
        ((_, tokens, _, _),) = answer(client, np.zeros((1, 16_000), np.float32))
        assert tokens > 0
        assert words(BECKETT) == answer(client, beckett[None])[0][0]
