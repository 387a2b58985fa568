"""Recordings longer than a window through a real server: every word, in order, with times; clear errors; nothing left behind."""

import io
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import soxr
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from asrloop.tritonserver.process import TritonServer
from asrloop.tritonserver.processes import model_processes
from tests.audio import zoo
from tests.conftest import BECKETT, StartServer, eventually, words
from tests.model_repository.test_contract import cancel, encoded, metric

Samples = NDArray[np.float32]

FILE_LIMIT, PCM_LIMIT, AT_ONCE = 400, 100, 3
PAUSE = 1.5


@pytest.fixture(scope="module")
def server(start_server: StartServer, model_repository: Any) -> Iterator[TritonServer]:
    """With limits that a test reaches."""
    limits = {
        "ASRLOOP_AUDIO__MAX_SECONDS": str(FILE_LIMIT),
        "ASRLOOP_AUDIO__MAX_PCM_SECONDS": str(PCM_LIMIT),
        "ASRLOOP_WINDOWS__RECORDINGS": str(AT_ONCE),
    }
    with start_server(model_repository, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def grpc(server: TritonServer) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:
        yield client


class Heard(NamedTuple):
    text: str
    segments: list[str]
    times: list[list[float]]
    complete: bool


def send(
    client: triton_grpc.InferenceServerClient, audio: bytes | Samples, timeout: float = 0.0, **parameters: Any
) -> Heard:
    """A file through asr_file, samples through asr_ensemble."""
    if isinstance(audio, bytes):
        model, tensor = "asr_file", triton_grpc.InferInput("AUDIO", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[audio]], np.object_))
    else:
        model, tensor = "asr_ensemble", triton_grpc.InferInput("WAV", [1, audio.size], "FP32")
        tensor.set_data_from_numpy(audio[None])
    answer = client.infer(
        model, [tensor], parameters=parameters or None, timeout=round(timeout * 1e6) or None, client_timeout=300
    )
    return Heard(
        answer.as_numpy("TRANSCRIPTS")[0, 0].decode(),
        [text.decode() for text in answer.as_numpy("SEGMENTS")[0]],
        answer.as_numpy("SEGMENT_TIMES")[0].tolist(),
        bool(answer.as_numpy("COMPLETE")[0, 0]),
    )


def says(text: str, count: int) -> bool:
    """Whether the text is that of so many beckett.wav: a word may be heard as another one, none may be lost or doubled."""
    found = words(text)
    return (
        found.count("no matter try again") == count
        and found.count(" again") == 2 * count
        and len(found.split()) == 12 * count
    )


def repeated(beckett: Samples, count: int, pause: float = PAUSE) -> Samples:
    silence = np.zeros(int(pause * 16_000), np.float32)
    return np.concatenate([part for _ in range(count) for part in (beckett, silence)])


def flac(samples: Samples) -> bytes:
    return encoded(samples, 16_000, "FLAC", "PCM_16")


def assert_times_fit(heard: Heard, samples: Samples) -> None:
    assert heard.text == " ".join(heard.segments)
    moments = [moment for segment in heard.times for moment in segment]
    assert moments == sorted(moments)
    assert 0 <= moments[0] <= moments[-1] <= samples.size / 16_000 + 0.04


def test_every_word_of_a_recording_in_order(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    samples = repeated(beckett, 8)
    heard = send(grpc, samples)
    assert says(heard.text, 8)
    assert heard.complete
    assert_times_fit(heard, samples)
    pauses = np.array(heard.times[1:])[:, 0] - np.array(heard.times[:-1])[:, 1]
    assert (pauses > 0.5).sum() >= 7, "long pauses are left out"


@pytest.mark.parametrize("kind", ["FLAC", "MP3", "8 kHz", "48 kHz stereo", "piped WAV"])
def test_files_are_heard_like_samples(kind: str, grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    samples = repeated(beckett, 6)
    made = {
        "FLAC": lambda: flac(samples),
        "MP3": lambda: encoded(samples, 16_000, "MP3", "MPEG_LAYER_III"),
        "8 kHz": lambda: encoded(soxr.resample(samples, 16_000, 8_000), 8_000, "WAV", "PCM_16"),
        "48 kHz stereo": lambda: encoded(np.column_stack([soxr.resample(samples, 16_000, 48_000)] * 2), 48_000, "FLAC", "PCM_24"),
        "piped WAV": lambda: zoo.piped_wav(samples, 0xFFFFFFFF),
    }  # fmt: skip
    heard = send(grpc, made[kind]())
    assert says(heard.text, 6)
    assert_times_fit(heard, samples)


def test_a_file_equals_the_same_samples(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    samples = repeated(beckett, 7, pause=0.9)
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    assert send(grpc, file.getvalue()) == send(grpc, samples)


def test_other_rates_are_heard_as_well(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    samples = soxr.resample(repeated(beckett, 3), 16_000, 44_100)
    heard = send(grpc, samples, sample_rate=44_100)
    assert says(heard.text, 3)


@pytest.mark.parametrize("seconds", [1.5, 5.0, 8.0])
def test_segments_begin_and_end_with_speech_and_a_long_pause_parts_them(
    seconds: float, grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    said, lead, pause = (
        beckett[: int(3.4 * 16_000)],
        np.zeros(32_000, np.float32),
        np.zeros(int(seconds * 16_000), np.float32),
    )
    heard = send(grpc, np.concatenate([lead, said, pause, said]))
    assert [words(text) for text in heard.segments] == ["ever tried ever failed"] * 2
    (first, end), (second, _) = heard.times
    assert 1.6 < first < 2.1
    assert 4.5 < end <= 5.5
    assert second == pytest.approx(first + 3.4 + seconds, abs=0.1)
    again = send(grpc, flac(np.concatenate([lead, said, pause, said])))
    assert again.segments == heard.segments


def test_short_audio_is_one_segment(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    heard = send(grpc, beckett)
    assert heard.segments == [heard.text]
    (times,) = heard.times
    assert times[0] == 0
    assert 9 < times[1] < beckett.size / 16_000, "it ends with the speech"
    assert send(grpc, np.zeros(16_000, np.float32)) == Heard("", [], [], True)


def nothing(kind: str, seconds: int) -> Samples:
    count = seconds * 16_000
    rng = np.random.default_rng(5)
    made = {
        "silence": lambda: np.zeros(count),
        "noise": lambda: rng.normal(0, 0.05, count),
        "faint noise": lambda: rng.normal(0, 0.001, count),
        "hum": lambda: 0.1 * np.sin(2 * np.pi * 50 * np.arange(count) / 16_000),
    }
    return made[kind]().astype(np.float32)


@pytest.mark.parametrize("kind", ["silence", "noise", "faint noise", "hum"])
def test_nothing_is_no_text(kind: str, grpc: triton_grpc.InferenceServerClient) -> None:
    assert send(grpc, flac(nothing(kind, FILE_LIMIT))) == Heard("", [], [], True)


def chords(seconds: int) -> Samples:
    at = np.arange(seconds * 16_000) / 16_000
    tones = [
        0.1 * np.sin(2 * np.pi * note * at) * (np.sin(2 * np.pi * at / bar) > 0)
        for note, bar in ((220, 1.1), (330, 0.9))
    ]
    return np.sum(tones, axis=0).astype(np.float32)


def refused(client: triton_grpc.InferenceServerClient, audio: bytes | Samples, **options: Any) -> str:
    with pytest.raises(InferenceServerException) as error:
        send(client, audio, **options)
    message: str = error.value.message()
    return message


def test_bad_recordings_get_a_clear_error(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    whole = flac(repeated(beckett, 8))
    too_long = np.zeros((FILE_LIMIT + 1) * 16_000, np.float32)
    assert "[too_long] audio is 401.00 s long: the limit is 400 s (audio.max_seconds)" in refused(grpc, flac(too_long))
    assert "[too_long] audio is 101.00 s long: the limit is 100 s (audio.max_pcm_seconds)" in refused(
        grpc, too_long[: (PCM_LIMIT + 1) * 16_000]
    )
    cut = send(grpc, whole[: len(whole) // 2])
    assert words(cut.text).startswith(BECKETT)
    assert not cut.complete
    assert "[too_long]" in refused(grpc, zoo.piped_wav(too_long, 0xFFFFFFFF))
    assert words(send(grpc, beckett).text) == BECKETT


def test_music_harms_nobody(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    heard = send(grpc, flac(np.concatenate([chords(60), repeated(beckett, 1), chords(60)])))
    assert "ever tried ever failed no matter try again" in words(heard.text)


def test_the_rest_of_a_file_is_to_be_had_by_its_handle_only(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    unknown, wrong = r"\[failed\] the rest of the file cannot be read", r"\[invalid_audio\] REST is "
    for handle, said in ((b"0" * 32, unknown), (b"../../tmp/x", wrong), (b"\xff\x00", wrong)):
        inputs = [
            triton_grpc.InferInput("SAMPLES", [1, beckett.size], "FP32"), triton_grpc.InferInput("REST", [1, 1], "BYTES")
        ]  # fmt: skip
        inputs[0].set_data_from_numpy(beckett[None])
        inputs[1].set_data_from_numpy(np.array([[handle]], np.object_))
        with pytest.raises(InferenceServerException, match=said):
            grpc.infer("decoder_loop", inputs, client_timeout=30)


def progress(client: triton_grpc.InferenceServerClient, key: str) -> list[float]:
    """Seconds done, seconds in all."""
    tensor = triton_grpc.InferInput("SAMPLES", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
    wanted = [triton_grpc.InferRequestedOutput("PROGRESS")]
    answer = client.infer("decoder_loop", [tensor], outputs=wanted, parameters={"progress": key}, client_timeout=30)
    found: list[float] = answer.as_numpy("PROGRESS")[0].tolist()
    return found


def test_progress_can_be_asked_and_a_cancel_in_the_middle_frees_everything(
    server: TritonServer, grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    key = "a key of one long file"
    content = flac(repeated(beckett, 34))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(refused, grpc, content, cancel_key=key)
        assert eventually(lambda: progress(grpc, key)[0] > 5, 30)
        done, known = progress(grpc, key)
        assert done < known == pytest.approx(34 * (beckett.size / 16_000 + PAUSE), abs=0.1)
        assert progress(grpc, "another key, as long") == [0, 0]
        assert cancel(grpc, key) == 1
        assert "[cancelled]" in call.result(30)
    assert eventually(lambda: metric(server, "asrloop_slots_in_use") == 0)
    assert progress(grpc, key) == [0, 0]


def test_the_callers_time_ends_a_long_file(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    assert "[deadline]" in refused(grpc, flac(repeated(beckett, 34)), timeout=0.7)


@pytest.mark.slow
def test_short_audio_is_answered_while_recordings_run_and_one_more_waits_for_its_turn(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    content = flac(repeated(beckett, 20))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        keys = [f"key of recording {number}" for number in range(AT_ONCE)]
        calls = [pool.submit(send, grpc, content, cancel_key=key) for key in keys]
        assert eventually(lambda: all(progress(grpc, key)[1] for key in keys), 30)
        key = "key of one more recording"
        with ThreadPoolExecutor(1) as another:
            late = another.submit(send, grpc, content, cancel_key=key, timeout=240.0)
            assert eventually(lambda: progress(grpc, key)[1], 30)
            assert words(send(grpc, beckett).text) == BECKETT
            assert progress(grpc, key)[0] == 0
            assert says(late.result(240).text, 20)
        texts = [call.result(120).text for call in calls]
    assert all(says(text, 20) for text in texts)
    assert len(set(texts)) == 1


@pytest.mark.slow
def test_sixty_four_callers_with_20_s_are_all_answered(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    audio = np.concatenate([beckett, np.zeros(8_000, np.float32), beckett])
    with ThreadPoolExecutor(64) as pool:
        texts = [call.text for call in pool.map(lambda _: send(grpc, audio, timeout=240.0), range(64))]
    assert {words(text) for text in texts} == {f"{BECKETT} {BECKETT}"}


def test_a_parser_that_dies_in_the_middle_fails_its_request(
    start_server: StartServer, model_repository: Any, beckett: Samples
) -> None:
    with start_server(model_repository) as running, triton_grpc.InferenceServerClient(running.grpc_endpoint) as client:
        key = "a key of one long file"
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(refused, client, flac(repeated(beckett, 100)), cancel_key=key)
            assert eventually(lambda: progress(client, key)[0] > 5, 30)
            os.kill(model_processes(running.pid)["audio_frontend"], signal.SIGKILL)
            assert "[failed] the process that parses files ended" in call.result(60)
        assert words(send(client, beckett).text) == BECKETT
