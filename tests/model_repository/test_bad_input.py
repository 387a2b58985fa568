"""Every bad request gets INVALID_ARG with a code, the value and the limit, and the next good one is served."""

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soundfile
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT, words

Send = Callable[..., str]


@pytest.fixture(scope="module")
def send(server: TritonServer) -> Iterator[Send]:
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:

        def send(model: str, tensors: dict[str, NDArray[np.generic]], **parameters: object) -> str:
            types = {"float32": "FP32", "float64": "FP64", "int32": "INT32", "int16": "INT16", "object": "BYTES"}
            inputs = [
                triton_grpc.InferInput(name, value.shape, types[str(value.dtype)]) for name, value in tensors.items()
            ]
            for tensor, value in zip(inputs, tensors.values(), strict=True):
                tensor.set_data_from_numpy(value)
            result = client.infer(model, inputs, parameters=parameters or None, client_timeout=60)
            text: bytes = result.as_numpy("TRANSCRIPTS")[0, 0]
            return text.decode()

        yield send


def wav_file(samples: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(samples, np.float32), 16_000, format="WAV")
    return buffer.getvalue()


SECOND = np.zeros((1, 16_000), np.float32)


def with_value(value: float) -> NDArray[np.float32]:
    wav = SECOND.copy()
    wav[0, 1234] = value
    return wav


def blob(content: bytes) -> dict[str, NDArray[np.generic]]:
    return {"AUDIO": np.array([[content]], np.object_)}


BAD: dict[str, tuple[str, dict[str, NDArray[np.generic]], dict[str, object], list[str]]] = {
    "empty audio": ("asr_ensemble", {"WAV": np.zeros((1, 0), np.float32)}, {}, ["0 samples", "at least 1"]),
    "NaN": ("asr_ensemble", {"WAV": with_value(np.nan)}, {}, ["nan", "1234", "finite"]),
    "infinity": ("asr_ensemble", {"WAV": with_value(-np.inf)}, {}, ["-inf", "1234", "finite"]),
    # Triton reads the first dimension as the batch: the message is its own.
    "rank 1": ("asr_ensemble", {"WAV": np.zeros(16_000, np.float32)}, {}, ["batch-size", "64", "asr_ensemble"]),
    "rank 3": ("asr_ensemble", {"WAV": np.zeros((1, 1, 16_000), np.float32)}, {}, ["WAV", "[1,1,16000]", "[-1,-1]"]),
    "type": ("asr_ensemble", {"WAV": np.zeros((1, 16_000), np.int16)}, {}, ["WAV", "INT16", "FP32"]),
    "length 0": (
        "asr_ensemble",
        {"WAV": SECOND, "WAV_LENS": np.array([[0]], np.int32)},
        {},
        ["WAV_LENS is 0", "16000"],
    ),
    "negative length": (
        "asr_ensemble",
        {"WAV": SECOND, "WAV_LENS": np.array([[-5]], np.int32)},
        {},
        ["WAV_LENS is -5", "16000"],
    ),
    "length beyond": (
        "asr_ensemble",
        {"WAV": SECOND, "WAV_LENS": np.array([[16_001]], np.int32)},
        {},
        ["16001", "16000"],
    ),
    "rate 7": ("asr_ensemble", {"WAV": SECOND}, {"sample_rate": 7}, ["sample_rate is 7", "8000", "48000"]),
    "rate of words": ("asr_ensemble", {"WAV": SECOND}, {"sample_rate": "fast"}, ["'fast'", "8000", "48000"]),
    "no audio": ("asr_file", blob(b"%PDF-1.7 this is no audio" * 100), {}, ["2500 bytes", "WAV, FLAC, OGG, MP3"]),
    "no bytes": ("asr_file", blob(b""), {}, ["0 bytes"]),
    "truncated WAV header": ("asr_file", blob(wav_file()[:30]), {}, ["cut short", "30 bytes"]),
    "negative length at the loop": (
        "decoder_loop",
        {"SAMPLES": SECOND, "SAMPLE_LENS": np.array([[-5]], np.int32)},
        {},
        ["SAMPLE_LENS is -5", "16000"],
    ),
    "NaN at the loop": ("decoder_loop", {"SAMPLES": with_value(np.nan)}, {}, ["SAMPLES holds nan", "1234"]),
    "no audio at the loop": ("decoder_loop", {"WAV_LENS": np.array([[1]], np.int32)}, {}, ["send WAV"]),
    "file without samples": ("asr_file", blob(wav_file(0)), {}, ["0 samples"]),
}


TRITONS_OWN = ("rank 1", "rank 3", "type")
"""Refused by Triton itself, before our models."""


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_the_next_good_request_served(
    name: str, send: Send, beckett: NDArray[np.float32]
) -> None:
    model, tensors, parameters, parts = BAD[name]
    with pytest.raises(InferenceServerException) as refused:
        send(model, tensors, **parameters)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    if name not in TRITONS_OWN:
        parts = [*parts, "[invalid_audio] "]
    for part in parts:
        assert part in refused.value.message()
    assert words(send("asr_ensemble", {"WAV": beckett[None]})) == BECKETT


def test_the_shortest_audio_is_no_error(send: Send) -> None:
    send("asr_ensemble", {"WAV": np.zeros((1, 1), np.float32)})
