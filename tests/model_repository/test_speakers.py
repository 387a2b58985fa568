"""Who speaks, through a real server: by channels of a call, by voices, in short and in long files, and what cannot be asked."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from asrloop.tritonserver.process import TritonServer
from tests.conftest import words

Samples = NDArray[np.float32]
RATE = 16_000


@pytest.fixture(scope="module")
def grpc(server: TritonServer) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:
        yield client


def file_of(samples: Samples) -> bytes:
    """``samples`` are f32 [N] or [N, channels]."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV")
    return file.getvalue()


def answer(grpc: triton_grpc.InferenceServerClient, *files: bytes, **parameters: Any) -> triton_grpc.InferResult:
    tensor = triton_grpc.InferInput("AUDIO", [len(files), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[file] for file in files], np.object_))
    return grpc.infer("asr_file", [tensor], parameters=parameters, client_timeout=120)


def segments(result: triton_grpc.InferResult, row: int = 0) -> list[tuple[int, str]]:
    speakers, texts = (result.as_numpy(name)[row] for name in ("SEGMENT_SPEAKERS", "SEGMENTS"))
    return [(int(speaker), text.decode()) for speaker, text in zip(speakers, texts, strict=True) if text]


def said(result: triton_grpc.InferResult, speaker: int, row: int = 0) -> str:
    return words(" ".join(text for one, text in segments(result, row) if one == speaker))


@pytest.mark.parametrize("repeats", [1, 3])
def test_each_channel_of_a_call_is_a_speaker(
    grpc: triton_grpc.InferenceServerClient, call: Samples, repeats: int
) -> None:
    recording = np.tile(call, (repeats, 1))
    found = answer(grpc, file_of(recording), diarize="channels")
    for speaker in (0, 1):
        alone = answer(grpc, file_of(recording[:, speaker])).as_numpy("TRANSCRIPTS")[0, 0].decode()
        assert said(found, speaker) == words(alone)
        assert len(alone.split()) > 10
    order = [speaker for speaker, _ in segments(found)]
    assert order == sorted(order) or repeats > 1
    (starts,) = found.as_numpy("SEGMENT_TIMES")[..., 0]
    assert (np.diff(starts) >= 0).all()
    assert found.as_numpy("DURATION")[0, 0] == pytest.approx(repeats * len(call) / RATE, abs=0.1)
    assert found.as_numpy("WORD_SPEAKERS").shape == found.as_numpy("WORDS").shape


def test_rows_may_have_different_numbers_of_channels(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples, call: Samples
) -> None:
    three = np.stack([np.zeros_like(beckett), np.zeros_like(beckett), beckett], axis=1)
    found = answer(grpc, file_of(call), file_of(three), diarize="channels")
    assert {speaker for speaker, _ in segments(found)} == {0, 1}
    assert {speaker for speaker, _ in segments(found, 1)} == {2}


@pytest.mark.parametrize("repeats", [1, 4])
def test_one_voice_is_one_speaker_and_asking_changes_no_word(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples, repeats: int
) -> None:
    recording = file_of(np.tile(np.pad(beckett, (0, RATE // 2)), repeats))
    plain, asked = answer(grpc, recording), answer(grpc, recording, diarize=True)
    assert asked.as_numpy("TRANSCRIPTS")[0, 0] == plain.as_numpy("TRANSCRIPTS")[0, 0]
    assert set(asked.as_numpy("WORD_SPEAKERS").reshape(-1)) == {0}
    assert set(plain.as_numpy("SEGMENT_SPEAKERS").reshape(-1)) == {-1}
    assert plain.as_numpy("WORD_SPEAKERS").size == 0


@pytest.mark.parametrize("seconds", [0.01, 0.3])
def test_very_short_audio_has_an_answer(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples, seconds: float
) -> None:
    answer(grpc, file_of(beckett[RATE : RATE + int(seconds * RATE)]), diarize=True)
    assert answer(grpc, file_of(np.zeros(int(seconds * RATE), np.float32)), diarize=True).as_numpy("SEGMENTS").size == 0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"diarize": "channels"}, "diarize is channels, and the audio has 1 channel: send a file with 2 or more"),
        ({"diarize": "maybe"}, "diarize is 'maybe': send true, false, or channels"),
        ({"diarize": True, "speakers": 0}, "speakers is 0: send a whole number in 1..50"),
        ({"diarize": True, "speakers": -1}, "speakers is -1: send a whole number in 1..50"),
        ({"diarize": True, "speakers": 1000}, "speakers is 1000: send a whole number in 1..50"),
        ({"speakers": 2}, "speakers is 2, and diarize is not true"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples, parameters: dict[str, Any], message: str
) -> None:
    for length in (RATE, 4 * beckett.size):
        with pytest.raises(InferenceServerException) as refused:
            answer(grpc, file_of(np.resize(beckett, length)), **parameters)
        assert message in str(refused.value)
        assert "[invalid_option]" in str(refused.value)


def test_pcm_has_one_channel(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    tensor = triton_grpc.InferInput("WAV", [1, beckett.size], "FP32")
    tensor.set_data_from_numpy(beckett[None])
    with pytest.raises(InferenceServerException, match="the audio has 1 channel"):
        grpc.infer("asr_ensemble", [tensor], parameters={"diarize": "channels"}, client_timeout=60)
    found = grpc.infer("asr_ensemble", [tensor], parameters={"diarize": True}, client_timeout=60)
    assert set(found.as_numpy("WORD_SPEAKERS").reshape(-1)) == {0}


@pytest.mark.parametrize("seconds", [2, 35])
@pytest.mark.parametrize("channels", [(1, 2), (2, 1), (2, 3)])
def test_a_file_whose_parts_have_different_channels_is_refused(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples, seconds: int, channels: tuple[int, int]
) -> None:
    parts = []
    for count in channels:
        part = io.BytesIO()
        soundfile.write(part, np.tile(np.resize(beckett, seconds * RATE)[:, None], count), RATE, format="OGG")
        parts.append(part.getvalue())
    with pytest.raises(InferenceServerException) as refused:
        answer(grpc, b"".join(parts), diarize="channels")
    assert f"channels up to {seconds}" in str(refused.value) or "the audio has 1 channel" in str(refused.value)
    assert answer(grpc, b"".join(parts)).as_numpy("TRANSCRIPTS")[0, 0]
