"""Times of words of all that is hard to time, and terms of all kinds, through a real server."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray

from asrloop.tritonserver.process import TritonServer
from tests.conftest import words

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def grpc(server: TritonServer) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:
        yield client


def answer(grpc: triton_grpc.InferenceServerClient, samples: Samples, **parameters: Any) -> triton_grpc.InferResult:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV")
    tensor = triton_grpc.InferInput("AUDIO", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[file.getvalue()]], np.object_))
    return grpc.infer("asr_file", [tensor], parameters=parameters, client_timeout=60)


def text_of(result: triton_grpc.InferResult) -> str:
    return str(result.as_numpy("TRANSCRIPTS")[0, 0].decode())


@pytest.mark.parametrize("samples", [1, 1_600, 16_000])
def test_silence_has_no_words(grpc: triton_grpc.InferenceServerClient, samples: int) -> None:
    found = answer(grpc, np.zeros(samples, np.float32), word_times=True)
    assert [found.as_numpy(name).size for name in ("WORDS", "WORD_TIMES", "WORD_CONFIDENCES")] == [0, 0, 0]


@pytest.mark.parametrize("seconds", [0.1, 0.4, 1.0])
def test_words_of_a_snippet_lie_in_it(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples, seconds: float
) -> None:
    found = answer(grpc, beckett[8_000 : 8_000 + int(16_000 * seconds)], word_times=True)
    times = found.as_numpy("WORD_TIMES").reshape(-1)
    assert (np.diff(times) >= 0).all()
    assert all(0 <= time <= seconds + 1e-6 for time in times)


def test_windows_of_a_long_recording_shift_their_words(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    recording = np.tile(np.pad(beckett, (0, 8_000)), 5)
    plain, asked = answer(grpc, recording), answer(grpc, recording, word_times="true")
    assert text_of(asked) == text_of(plain)
    (said,), (times,) = asked.as_numpy("WORDS"), asked.as_numpy("WORD_TIMES")
    assert words(b" ".join(said).decode()) == words(text_of(plain))
    assert (times[:, 1] >= times[:, 0]).all()
    assert (np.diff(times[:, 0]) >= 0).all()
    repeats = [start for word, (start, _) in zip(said, times, strict=True) if words(word.decode()) == "matter"]
    assert len(repeats) == 5
    period = beckett.size / 16_000 + 0.5
    np.testing.assert_allclose(np.diff(repeats), period, atol=0.3)


def test_terms_that_were_not_said_change_nothing(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    names = [f"Nobody{number}" for number in range(95)]
    terms = [*names, "New York", "New", "new york", "New York", "Łódź"]
    assert text_of(answer(grpc, beckett, key_terms="\n".join(terms))) == text_of(answer(grpc, beckett))


def test_terms_and_times_go_together(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    found = answer(grpc, beckett, key_terms="Ever Tried\nFail Better", key_terms_boost=10.0, word_times=True)
    (said,) = found.as_numpy("WORDS")
    assert b" ".join(said).decode() == text_of(found)
