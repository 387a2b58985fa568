"""A real server with a second recognizer of another family beside the default: both answer, live audio chooses, metrics tell them
apart."""

import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tritonclient.grpc as triton_grpc
from asrloop_client import AsrClient, AsrError, Cancelled, CancelToken
from asrloop_client.cli import app as client_app
from numpy.typing import NDArray
from openai import BadRequestError, NotFoundError, OpenAI
from tritonclient.utils import InferenceServerException
from typer.testing import CliRunner
from websockets.sync.client import connect

from asrloop import config
from asrloop.cli import app
from asrloop.offline import Model
from asrloop.tritonserver import beside
from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT, ROOT, StartServer, eventually, words
from tests.gateway.conftest import RunningGateway, pcm
from tests.gateway.test_realtime import COMPLETED, QUIET, Talk, talk
from tests.model_repository.test_contract import settled
from tests.model_repository.test_live import Caller, Samples

TINY = ROOT / "training" / "tiny-tdt"


@pytest.fixture(scope="module")
def repository(model_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with the recognizer ``tiny``, made as a user makes it."""
    made = tmp_path_factory.mktemp("two") / "model_repository"
    shutil.copytree(model_repository, made, ignore=shutil.ignore_patterns("__pycache__"))
    for name in beside.names_in(made):  # whatever else was made here
        beside.remove(made, name)
    asked = ["models", "--as", "tiny", "--family", "nemo", "--from", str(TINY), "--languages", "en de"]
    result = CliRunner().invoke(app, [*asked, "--model-repository", str(made)])
    assert result.exit_code == 0, result.output
    return made


@pytest.fixture(scope="module")
def server(start_server: StartServer, repository: Path) -> Iterator[TritonServer]:
    with start_server(repository) as running:
        yield running


@pytest.fixture(scope="module")
def said_by_tiny(repository: Path, beckett_path: Path) -> str:
    """What the second recognizer makes of beckett.wav, without a server."""
    with Model(repository / "tiny_loop" / "1", config.load()) as model:
        said = model.transcribe(beckett_path).text
    assert words(said) not in ("", BECKETT)
    return said


def test_both_take_samples_and_files(
    server: TritonServer, beckett: NDArray[np.float32], beckett_path: Path, said_by_tiny: str
) -> None:
    wav = triton_grpc.InferInput("WAV", [1, beckett.size], "FP32")
    wav.set_data_from_numpy(beckett[None])
    file = triton_grpc.InferInput("AUDIO", [1, 1], "BYTES")
    file.set_data_from_numpy(np.array([[beckett_path.read_bytes()]], np.object_))
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:
        for model, tensor in (("asr_ensemble", wav), ("asr_file", file), ("tiny", wav), ("tiny_file", file)):
            result = client.infer(model, [tensor], client_timeout=60).as_numpy("TRANSCRIPTS")[0, 0].decode()
            assert words(result) == (words(said_by_tiny) if model.startswith("tiny") else BECKETT)


def streamed(server: TritonServer, samples: Samples, **parameters: str) -> str:
    """The text of a stream."""
    caller = Caller(server)
    try:
        caller.send(samples, 77, start=True, **parameters)
        caller.send(samples[:0], 77, end=True)
        return words(" ".join(event.stable for event in caller.until_over() if event.final))
    finally:
        caller.client.stop_stream(cancel_requests=True)
        caller.client.close()


def test_a_stream_names_its_recognizer(server: TritonServer, beckett: NDArray[np.float32]) -> None:
    heard = streamed(server, beckett)
    by_tiny = streamed(server, beckett, model="tiny")
    assert heard == streamed(server, beckett, model="") == BECKETT
    assert by_tiny not in ("", BECKETT)


@pytest.mark.parametrize("name", ["nobody", "../tiny", "Tiny", "family"])
def test_a_recognizer_that_is_not_there_is_named(server: TritonServer, name: str) -> None:
    with pytest.raises(InferenceServerException, match=r"\[invalid_option\] model.*(choose of tiny|no name)"):
        streamed(server, np.zeros(1600, np.float32), model=name)


def test_an_option_that_only_the_other_has_is_refused(server: TritonServer) -> None:
    with pytest.raises(
        InferenceServerException, match=r"\[invalid_option\] language is 'fr': the served model has en, de"
    ):
        streamed(server, np.zeros(1600, np.float32), model="tiny", language="fr")


def test_metrics_tell_them_apart(server: TritonServer, beckett: NDArray[np.float32]) -> None:
    def steps() -> list[str]:
        lines = urllib.request.urlopen(server.metrics_url).read().decode().splitlines()
        return [line for line in lines if line.startswith("asrloop_steps_total")]

    streamed(server, beckett, model="tiny")
    assert eventually(
        lambda: (
            any('recognizer="tiny"' in line and not line.endswith(" 0") for line in steps())
            and any("{" not in line for line in steps())
        )
    )


def test_the_list_names_both(repository: Path) -> None:
    listed = CliRunner().invoke(app, ["models", "--list", "--model-repository", str(repository)]).output.splitlines()
    assert [line.split(", ")[0] for line in listed] == ["default: moonshine", "tiny: transducer"]


def test_the_client_chooses(server: TritonServer, beckett_path: Path, said_by_tiny: str) -> None:
    with AsrClient(server.grpc_endpoint) as client:
        assert client.recognizers() == ["", "tiny"]
        assert words(client.transcribe(beckett_path, model="tiny").text) == words(said_by_tiny)
        assert words(client.transcribe(beckett_path, model="").text) == BECKETT
        many = client.transcribe_many([beckett_path] * 2, model="tiny")
        assert [words(each.text) for each in many] == [words(said_by_tiny)] * 2
        with client.stream(iter([soundfile.read(beckett_path, dtype="float32")[0]]), model="tiny") as stream:
            assert words(" ".join(event.stable for event in stream if event.final)) not in ("", BECKETT)
        with pytest.raises(AsrError, match="nobody"):
            client.transcribe(beckett_path, model="nobody", timeout=5)


def test_a_call_that_is_cancelled_ends_in_its_own_loop(server: TritonServer, beckett: NDArray[np.float32]) -> None:
    def number(name: str) -> float:
        lines = urllib.request.urlopen(server.metrics_url).read().decode().splitlines()
        return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    def cancel_when_it_runs() -> None:
        eventually(lambda: number('asrloop_slots_in_use{recognizer="tiny"} '))
        token.cancel()

    ended = 'asrloop_requests_total{outcome="cancelled",recognizer="tiny"} '
    before, token = number(ended), CancelToken()
    with AsrClient(server.grpc_endpoint) as client:
        canceller = threading.Thread(target=cancel_when_it_runs)
        canceller.start()
        with pytest.raises(Cancelled):
            client.transcribe(np.tile(beckett, 300), model="tiny", cancel=token, timeout=120)
        canceller.join()
        assert eventually(lambda: number(ended) > before)


def test_the_command_line_chooses(server: TritonServer, beckett_path: Path, said_by_tiny: str) -> None:
    named = CliRunner().invoke(client_app, ["models", "--server", server.grpc_endpoint])
    assert named.output.splitlines() == ["default: moonshine, en", "tiny: transducer, en de"]
    asked = ["transcribe", str(beckett_path), "--model", "tiny", "--server", server.grpc_endpoint]
    assert words(said_by_tiny) in words(CliRunner().invoke(client_app, asked).output)


@pytest.fixture(scope="module")
def gateway(server: TritonServer) -> Iterator[RunningGateway]:
    running = RunningGateway(server.grpc_endpoint, {"model_aliases": '{"whisper-1": "tiny"}'})
    yield running
    running.stop()


@pytest.fixture(scope="module")
def openai_client(gateway: RunningGateway) -> Iterator[OpenAI]:
    with OpenAI(api_key="any", base_url=f"{gateway.url}/v1", max_retries=0) as client:
        yield client


def test_the_gateway_lists_them_with_their_languages(openai_client: OpenAI) -> None:
    extra = {each.id: each.model_extra or {} for each in openai_client.models.list()}
    assert {name: (each["family"], each["languages"]) for name, each in extra.items()} == {
        "asr_ensemble": ("moonshine", ["en"]),
        "asr_file": ("moonshine", ["en"]),
        "tiny": ("transducer", ["en", "de"]),
    }
    assert openai_client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(NotFoundError, match="There are asr_ensemble, asr_file, tiny"):
        openai_client.models.retrieve("nobody")


def test_the_list_costs_the_servers_no_request_each_time(openai_client: OpenAI, server: TritonServer) -> None:
    def refused() -> float:
        lines = urllib.request.urlopen(server.metrics_url).read().decode().splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if 'asrloop_requests_total{outcome="invalid_option"' in line
        )

    openai_client.models.list()
    before = settled(refused)
    for _ in range(3):
        openai_client.models.list()
    assert settled(refused) == before


def post(client: OpenAI, file: Path, **fields: str) -> str:
    return client.audio.transcriptions.create(file=file, **fields).text  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("model", ["tiny", "whisper-1"])
def test_a_model_or_its_alias_is_asked(
    openai_client: OpenAI, beckett_path: Path, said_by_tiny: str, model: str
) -> None:
    assert words(post(openai_client, beckett_path, model=model)) == words(said_by_tiny)


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "any", "asr_file", "decoder_loop", ""])
def test_any_other_name_is_the_default(openai_client: OpenAI, beckett_path: Path, model: str) -> None:
    assert words(post(openai_client, beckett_path, model=model)) == BECKETT


def test_a_language_that_another_has_names_that(openai_client: OpenAI, beckett_path: Path) -> None:
    with pytest.raises(BadRequestError, match="Of the other models tiny have it") as refused:
        post(openai_client, beckett_path, model="any", language="de")
    assert (refused.value.code, refused.value.param) == ("invalid_option", "language")
    with pytest.raises(BadRequestError, match=r"^(?!.*tiny).*the served model has en;"):
        post(openai_client, beckett_path, model="any", language="fr")


def test_a_socket_names_its_model(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    def said(**start: str) -> str:
        with connect(f"ws://{gateway.address}/v1/stream") as socket:
            socket.send(json.dumps({"type": "start", **start}))
            socket.send((beckett * 32767).astype("<i2").tobytes())
            socket.send(json.dumps({"type": "end"}))
            return words(" ".join(event["stable"] for each in socket if (event := json.loads(each))["final"]))

    assert said() == said(model="any") == BECKETT
    assert said(model="tiny") not in ("", BECKETT)


def test_a_realtime_session_may_change_its_model(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    """At the next item, as with all settings."""
    audio = pcm(np.concatenate([beckett, QUIET, QUIET]))

    async def use(session: Talk) -> str:
        await session.append(audio)
        while words(" ".join(session.said)) != BECKETT:
            await session.until(COMPLETED)
        session.said.clear()
        await session.update(transcription={"model": "tiny"})
        await session.append(audio)
        await session.until(COMPLETED)
        return words(session.said[0])

    said = talk(gateway, use)
    assert said
    assert not BECKETT.startswith(said)
