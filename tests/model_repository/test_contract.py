"""The contract of the model repository, asked of a real tritonserver by real clients."""

import io
import json
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import soundfile
import soxr
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from asrloop.engine.metrics import PUBLISH_SECONDS
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT, ROOT, StartServer, eventually, words

Samples = NDArray[np.float32]
T = TypeVar("T")


@pytest.fixture(scope="module")
def grpc(server: TritonServer) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:
        yield client


def transcribe(
    client: triton_grpc.InferenceServerClient, wav: Samples, lengths: list[int] | None = None, **parameters: int
) -> list[str]:
    """Texts of ``wav`` [B, N] through asr_ensemble."""
    inputs = [triton_grpc.InferInput("WAV", wav.shape, "FP32")]
    inputs[0].set_data_from_numpy(wav)
    if lengths is not None:
        inputs.append(triton_grpc.InferInput("WAV_LENS", [len(lengths), 1], "INT32"))
        inputs[1].set_data_from_numpy(np.array(lengths, np.int32)[:, None])
    result = client.infer("asr_ensemble", inputs, parameters=parameters or None, client_timeout=60)
    return [text.decode() for text in result.as_numpy("TRANSCRIPTS").reshape(-1)]


def transcribe_file(client: triton_grpc.InferenceServerClient, content: bytes) -> str:
    inputs = [triton_grpc.InferInput("AUDIO", [1, 1], "BYTES")]
    inputs[0].set_data_from_numpy(np.array([[content]], np.object_))
    text: bytes = client.infer("asr_file", inputs, client_timeout=60).as_numpy("TRANSCRIPTS")[0, 0]
    return text.decode()


def encoded(samples: NDArray[np.generic], rate: int, container: str, subtype: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def test_grpc_gives_the_transcript(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    assert words(transcribe(grpc, beckett[None])[0]) == BECKETT


def test_tokens_are_the_transcripts(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    inputs = [triton_grpc.InferInput("WAV", [1, beckett.size], "FP32")]
    inputs[0].set_data_from_numpy(beckett[None])
    answer = grpc.infer("asr_ensemble", inputs)
    (tokens,) = answer.as_numpy("TOKENS")
    assert tokens.dtype == np.int32
    assert (tokens > 2).all()
    vocabulary = Vocabulary.read_binary(ROOT / "model_repository" / "decoder_loop" / "1" / "tokenizer.bin")
    assert vocabulary.text(tokens.tolist()) == answer.as_numpy("TRANSCRIPTS")[0, 0].decode()


def test_http_gives_the_transcript(server: TritonServer, beckett: Samples) -> None:
    with triton_http.InferenceServerClient(server.http_endpoint) as client:
        inputs = [triton_http.InferInput("WAV", [1, beckett.size], "FP32")]
        inputs[0].set_data_from_numpy(beckett[None])
        assert words(client.infer("asr_ensemble", inputs).as_numpy("TRANSCRIPTS")[0, 0].decode()) == BECKETT


def test_curl_with_the_bare_file_gives_the_transcript(server: TritonServer, beckett_path: Path) -> None:
    url = f"http://{server.http_endpoint}/v2/models/asr_file/infer"
    command = [
        "curl",
        "--silent",
        "--max-time",
        "60",
        "--data-binary",
        f"@{beckett_path}",
        "-H",
        "Inference-Header-Content-Length: 0",
        "-H",
        "Content-Type: application/octet-stream",
        url,
    ]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=90).stdout
    # Triton answers a binary request with a JSON header and then the tensors' bytes.
    assert BECKETT in words(answer.decode("utf-8", errors="replace"))


@pytest.mark.parametrize(
    ("rate", "channels", "container", "subtype"),
    [(16_000, 1, "FLAC", "PCM_16"), (8_000, 1, "WAV", "PCM_16"), (44_100, 2, "WAV", "PCM_24"), (16_000, 1, "OGG", "VORBIS"),
     (16_000, 1, "WAV", "PCM_16"), (16_000, 1, "WAV", "FLOAT"), (48_000, 1, "MP3", "MPEG_LAYER_III")],
)  # fmt: skip
def test_files_of_many_kinds_give_the_transcript(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples, rate: int, channels: int, container: str, subtype: str
) -> None:
    samples = soxr.resample(beckett, 16_000, rate)
    content = encoded(np.column_stack([samples] * channels), rate, container, subtype)
    assert words(transcribe_file(grpc, content)) == BECKETT


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_samples_of_other_rates_give_the_transcript(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples, rate: int
) -> None:
    (text,) = transcribe(grpc, soxr.resample(beckett, 16_000, rate)[None], sample_rate=rate)
    assert words(text) == BECKETT


def test_a_batch_of_different_lengths_gives_each_its_text(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    short = beckett[: 3 * 16_000]
    alone = [*transcribe(grpc, short[None]), *transcribe(grpc, beckett[None])]
    batch = np.zeros((2, beckett.size), np.float32)
    batch[0, : short.size], batch[1] = short, beckett
    assert transcribe(grpc, batch, [short.size, beckett.size]) == alone


def test_lengths_cut_off_the_padding(grpc: triton_grpc.InferenceServerClient, beckett: Samples) -> None:
    padded = np.concatenate([beckett, np.ones(16_000, np.float32)])
    assert transcribe(grpc, padded[None], [beckett.size]) == transcribe(grpc, beckett[None])


def test_bls_gives_the_same_tokens(
    start_server: StartServer, server: TritonServer, repository_copy: Path, beckett: Samples
) -> None:
    config = repository_copy / "decoder_loop" / "config.pbtxt"
    config.write_text(config.read_text().replace('"in_process"', '"bls"'))
    wav = np.zeros((2, beckett.size), np.float32)
    wav[0], wav[1, :40_000] = beckett, beckett[20_000:60_000]
    with start_server(repository_copy) as bls:
        answers = []
        for running in (server, bls):
            with triton_grpc.InferenceServerClient(running.grpc_endpoint) as client:
                inputs = [
                    triton_grpc.InferInput("WAV", wav.shape, "FP32"),
                    triton_grpc.InferInput("WAV_LENS", [2, 1], "INT32"),
                ]
                inputs[0].set_data_from_numpy(wav)
                inputs[1].set_data_from_numpy(np.array([[beckett.size], [40_000]], np.int32))
                answer = client.infer("asr_ensemble", inputs, parameters={"word_times": True})
                answers.append([answer.as_numpy(name) for name in ("TOKENS", "WORDS", "WORD_TIMES", "LANGUAGE")])
        with triton_grpc.InferenceServerClient(bls.grpc_endpoint) as client:
            for name, value, refusal in (
                ("key_terms", "Szczecin", "key_terms are not served in this mode"),
                ("prompt", "before", "prompt is 'before': this server does not serve it"),
                ("task", "translate", "task is 'translate': the served model can transcribe"),
                ("language", "de", "language is 'de': the served model has en"),
            ):
                with pytest.raises(InferenceServerException, match=rf"\[invalid_option\] {refusal}"):
                    client.infer("asr_ensemble", inputs, parameters={name: value})
    for here, there in zip(*answers, strict=True):
        np.testing.assert_array_equal(here, there)
    assert answers[0][-1].tolist() == [[b"en"], [b"en"]]


def test_words_have_times_and_confidences_and_asking_changes_no_text(
    grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    tensor = triton_grpc.InferInput("WAV", [1, beckett.size], "FP32")
    tensor.set_data_from_numpy(beckett[None])
    plain, asked = (grpc.infer("asr_ensemble", [tensor], parameters=each) for each in ({}, {"word_times": True}))
    assert plain.as_numpy("WORDS").size == plain.as_numpy("WORD_CONFIDENCES").size == 0
    np.testing.assert_array_equal(plain.as_numpy("TOKENS"), asked.as_numpy("TOKENS"))
    (texts,), (times,), (confidences,) = (asked.as_numpy(name) for name in ("WORDS", "WORD_TIMES", "WORD_CONFIDENCES"))
    assert b" ".join(texts) == asked.as_numpy("TRANSCRIPTS")[0, 0]
    assert (np.diff(times.reshape(-1)) >= 0).all(), "in order, and none overlaps"
    assert 0 <= times.min() < times.max() <= beckett.size / 16_000
    assert ((confidences > 0) & (confidences <= 1)).all()
    assert asked.as_numpy("TOKEN_TIMES").shape == asked.as_numpy("TOKENS").shape


def metric(server: TritonServer, name: str) -> float:
    with urllib.request.urlopen(server.metrics_url, timeout=10) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def settled(read: Callable[[], T]) -> T:
    """What ``read`` returns when all that earlier requests did is published, which takes a moment."""

    def stands_still() -> bool:
        before.append(read())
        time.sleep(4 * PUBLISH_SECONDS)
        return before[-1] == read()

    before: list[T] = []
    assert eventually(stands_still)
    return before[-1]


def test_metrics_count_what_was_done(
    server: TritonServer, grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    def value(name: str) -> float:
        return metric(server, name)

    settled(lambda: value("asrloop_steps_total"))
    ok = 'asrloop_requests_total{outcome="ok"}'
    counted, tokens, seconds, rows = (
        value(n) for n in (ok, "asrloop_tokens_total", "asrloop_audio_seconds_total", "asrloop_steps_total")
    )
    inputs = [triton_grpc.InferInput("WAV", [1, beckett.size], "FP32")]
    inputs[0].set_data_from_numpy(beckett[None])
    heard = grpc.infer("asr_ensemble", inputs).as_numpy("TOKENS").size
    assert eventually(lambda: value(ok) == counted + 1)
    assert eventually(lambda: value("asrloop_tokens_total") == tokens + heard)
    settled(lambda: value("asrloop_steps_total"))
    assert value("asrloop_audio_seconds_total") == pytest.approx(seconds + beckett.size / 16_000)
    assert value("asrloop_steps_total") == rows + heard + 1  # and the end
    assert value("asrloop_encode_seconds_count") >= 1
    assert value("asrloop_rows_per_step_count") == value("asrloop_steps_total")
    assert eventually(lambda: value("asrloop_slots_in_use") == 0)


def test_json_request_gives_json(server: TritonServer, beckett: Samples) -> None:
    body = {
        "inputs": [{"name": "WAV", "shape": [1, 16_000], "datatype": "FP32", "data": beckett[:16_000].tolist()}],
        "parameters": {"sample_rate": 16_000},
    }
    request = urllib.request.Request(
        f"http://{server.http_endpoint}/v2/models/asr_ensemble/infer", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    assert {output["name"] for output in answer["outputs"]} >= {"TRANSCRIPTS", "TOKENS"}


def test_many_short_requests_at_once_leave_the_server_up(server: TritonServer, beckett: Samples) -> None:
    """Answers race with the question whether their callers are still there; a mistake there takes the server down."""
    clips = [beckett[start : start + 4_000] for start in range(0, 48_000, 4_000)]
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:
        alone = [transcribe(client, clip[None]) for clip in clips]
        with ThreadPoolExecutor(16) as pool:
            together = list(pool.map(lambda n: transcribe(client, clips[n % len(clips)][None]), range(400)))
    assert together == [alone[n % len(clips)] for n in range(400)]


def test_the_callers_timeout_ends_the_request(
    server: TritonServer, grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    inputs = [triton_grpc.InferInput("WAV", [1, beckett.size], "FP32")]
    inputs[0].set_data_from_numpy(beckett[None])
    with pytest.raises(InferenceServerException, match="the request's timeout passed") as refused:
        grpc.infer("asr_ensemble", inputs, timeout=1_000, client_timeout=60)  # microseconds
    assert refused.value.status() == "StatusCode.UNAVAILABLE"


def start_calls(
    grpc: triton_grpc.InferenceServerClient,
    model: str,
    tensors: dict[str, NDArray[np.generic]],
    count: int = 24,
    **parameters: str,
) -> list[object]:
    calls = []
    for _ in range(count):
        inputs = [
            triton_grpc.InferInput(name, value.shape, {"float32": "FP32", "int32": "INT32"}[str(value.dtype)])
            for name, value in tensors.items()
        ]
        for tensor, value in zip(inputs, tensors.values(), strict=True):
            tensor.set_data_from_numpy(value)
        calls.append(
            grpc.async_infer(
                model, inputs, callback=lambda result, error: None, parameters=parameters or None, request_id="1"
            )
        )
    return calls


def cancel(grpc: triton_grpc.InferenceServerClient, key: str | bool) -> int:
    samples, lengths = (
        triton_grpc.InferInput("SAMPLES", [1, 1], "FP32"),
        triton_grpc.InferInput("SAMPLE_LENS", [1, 1], "INT32"),
    )
    samples.set_data_from_numpy(np.zeros((1, 1), np.float32))
    lengths.set_data_from_numpy(np.ones((1, 1), np.int32))
    answer = grpc.infer("decoder_loop", [samples, lengths], parameters={"cancel": key}, client_timeout=60)
    assert answer.as_numpy("TRANSCRIPTS") is None
    return int(answer.as_numpy("CANCELLED")[0, 0])


def test_cancelling_requests_of_an_ensemble_by_their_key(
    server: TritonServer, grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    cancelled = 'asrloop_requests_total{outcome="cancelled"}'
    before = metric(server, cancelled)
    key = uuid.uuid4().hex
    start_calls(grpc, "asr_ensemble", {"WAV": beckett[None]}, cancel_key=key)
    assert eventually(lambda: metric(server, "asrloop_slots_in_use") > 0)
    count = cancel(grpc, key)
    assert count > 0
    assert eventually(lambda: metric(server, cancelled) >= before + count)
    assert words(transcribe(grpc, beckett[None])[0]) == BECKETT


@pytest.mark.parametrize("key", ["", "1", False, "somebody else's key"])
def test_nobody_ends_the_requests_of_others(
    server: TritonServer, grpc: triton_grpc.InferenceServerClient, beckett: Samples, key: str | bool
) -> None:
    """An empty key used to end every request without an id, equal ids ended each other, and `cancel: false` cancelled."""
    with ThreadPoolExecutor(8) as pool:
        texts = [pool.submit(transcribe, grpc, beckett[None]) for _ in range(40)]
        assert eventually(lambda: metric(server, "asrloop_slots_in_use") > 0)
        assert cancel(grpc, key) == 0
        assert {words(text.result()[0]) for text in texts} == {BECKETT}


def test_cancelling_a_direct_request_reaches_the_engine(
    server: TritonServer, grpc: triton_grpc.InferenceServerClient, beckett: Samples
) -> None:
    cancelled = 'asrloop_requests_total{outcome="cancelled"}'
    before = metric(server, cancelled)
    long = np.tile(beckett, 3)  # so that all together still decode when their callers are next asked after
    tensors = {"SAMPLES": long[None], "SAMPLE_LENS": np.array([[long.size]], np.int32)}
    calls = start_calls(grpc, "decoder_loop", tensors)
    assert eventually(lambda: metric(server, "asrloop_slots_in_use") > 0)
    for call in calls:
        call.cancel()  # type: ignore[attr-defined]
    assert eventually(lambda: metric(server, cancelled) > before)
    assert eventually(lambda: metric(server, "asrloop_slots_in_use") == 0)
    assert words(transcribe(grpc, beckett[None])[0]) == BECKETT


@pytest.mark.slow
def test_several_batches_give_the_same_texts(
    start_server: StartServer, grpc: triton_grpc.InferenceServerClient, model_repository: Path, beckett: Samples
) -> None:
    cuts = np.stack([beckett[start : start + 48_000] for start in range(0, 96_000, 4_000)])
    expected = transcribe(grpc, cuts)
    assert len(set(expected)) > 12
    with (
        start_server(model_repository, ASRLOOP_ENGINE__BATCHES="3", ASRLOOP_ENGINE__SLOTS="4") as many,
        triton_grpc.InferenceServerClient(many.grpc_endpoint) as client,
        ThreadPoolExecutor(24) as pool,
    ):
        assert transcribe(client, cuts) == expected, "the rows of one request"
        assert [text for (text,) in pool.map(lambda cut: transcribe(client, cut[None]), cuts)] == expected
        assert eventually(lambda: metric(many, "asrloop_slots_in_use") == 0)


def test_more_than_the_inbox_holds_is_refused_at_once(
    start_server: StartServer, model_repository: Path, beckett: Samples
) -> None:
    def outcome(client: triton_grpc.InferenceServerClient) -> str:
        try:
            return transcribe(client, beckett[None])[0]
        except InferenceServerException as error:
            return f"{error.status()} {error.message()}"

    with (
        start_server(model_repository, ASRLOOP_ENGINE__SLOTS="1", ASRLOOP_ENGINE__INBOX="2") as small,
        triton_grpc.InferenceServerClient(small.grpc_endpoint) as client,
        ThreadPoolExecutor(24) as pool,
    ):
        outcomes = list(pool.map(outcome, [client] * 24))
        refused = [text for text in outcomes if text.startswith("StatusCode.UNAVAILABLE")]
        assert refused
        assert all("the inbox holds 2 (engine.inbox)" in text for text in refused)
        assert len(refused) + [words(text) for text in outcomes].count(BECKETT) == 24
        assert eventually(lambda: metric(small, 'asrloop_requests_total{outcome="overloaded"}') == len(refused))
