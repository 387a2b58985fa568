"""Files through a real server: odd but honest ones lose no word, and the caller's time counts from the file's arrival."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from asrloop.tritonserver.process import TritonServer
from tests.audio import zoo
from tests.conftest import BECKETT, StartServer, eventually, words
from tests.model_repository.test_contract import cancel, metric, start_calls

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def grpc(server: TritonServer) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:
        yield client


def transcribe(client: triton_grpc.InferenceServerClient, content: bytes, timeout: float = 60.0) -> str:
    tensor = triton_grpc.InferInput("AUDIO", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[content]], np.object_))
    answer = client.infer("asr_file", [tensor], client_timeout=60, timeout=round(timeout * 1e6))
    return words(answer.as_numpy("TRANSCRIPTS")[0, 0].decode())


@pytest.mark.parametrize("name", zoo.ZOO)
def test_an_odd_file_loses_no_word(name: str, grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    # libsndfile writes no MP2, so that of the zoo is silent.
    assert transcribe(grpc, zoo.ZOO[name](beckett)) == ("" if name == "MP2" else BECKETT)


def slow_file(samples: Samples, seconds: int = 29) -> bytes:
    """Much to decode: eight channels at 192 kHz."""
    buffer = io.BytesIO()
    at_192k = soxr.resample(np.tile(samples, 3)[: seconds * 16_000], 16_000, 192_000)
    soundfile.write(buffer, np.column_stack([at_192k] * 8), 192_000, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def test_the_callers_time_ends_the_decoding_of_a_file(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    with pytest.raises(InferenceServerException, match=r"\[deadline\] .* before its file was decoded") as refused:
        transcribe(grpc, slow_file(beckett), timeout=0.05)
    assert refused.value.status() == "StatusCode.UNAVAILABLE"


@pytest.mark.slow
def test_the_loop_goes_on_with_the_time_that_the_file_left(
    start_server: StartServer, model_repository: Path, beckett: Samples
) -> None:
    """It used to give the whole timeout anew. Here the only slot is taken for longer than the caller waits."""
    content, timeout = slow_file(beckett, seconds=10), 6.0  # a busy machine decodes it within that
    key = "the time that the file left"
    slow = {"ASRLOOP_ENGINE__SLOTS": "1", "ASRLOOP_ENGINE__ENCODERS": "1", "ASRLOOP_ENGINE__INBOX": "300"}
    with (
        start_server(model_repository, **slow) as server,
        triton_grpc.InferenceServerClient(server.grpc_endpoint) as client,
    ):
        start_calls(client, "asr_ensemble", {"WAV": beckett[None]}, count=250, cancel_key=key)
        assert eventually(lambda: metric(server, "asrloop_slots_in_use") > 0)
        with pytest.raises(InferenceServerException, match=r"\[deadline\]") as refused:
            transcribe(client, content, timeout)
        cancel(client, key)
    in_the_loop = re.search(r"timeout passed after ([0-9.]+) s", refused.value.message())
    assert in_the_loop is not None, refused.value.message()
    assert 0 < float(in_the_loop[1]) < timeout - 0.1
