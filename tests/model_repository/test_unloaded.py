"""Models that Triton's model control unloads: whoever names them is told which, and how they come back."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from asrloop_client import AsrClient
from numpy.typing import NDArray
from openai import InternalServerError, OpenAI
from tritonclient.utils import InferenceServerException
from typer.testing import CliRunner
from websockets.sync.client import connect

from asrloop.cli import app
from asrloop.tritonserver import beside
from asrloop.tritonserver.process import TritonServer
from tests.conftest import ROOT, StartServer
from tests.gateway.conftest import RunningGateway
from tests.model_repository.test_live import Caller

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(
    start_server: StartServer, model_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """It has the recognizer ``tiny``, the loop of which is unloaded, and ``small``, of which only the model for files is."""
    made = tmp_path_factory.mktemp("unloaded") / "model_repository"
    shutil.copytree(model_repository, made, ignore=shutil.ignore_patterns("__pycache__"))
    for name in beside.names_in(made):
        beside.remove(made, name)
    for name in ("tiny", "small"):
        asked = ["models", "--as", name, "--family", "nemo", "--from", str(ROOT / "training" / "tiny-tdt")]
        result = CliRunner().invoke(app, [*asked, "--model-repository", str(made)])
        assert result.exit_code == 0, result.output
    with (
        start_server(made, ["--model-control-mode=explicit", "--load-model=*"]) as running,
        triton_grpc.InferenceServerClient(running.grpc_endpoint) as client,
    ):
        client.unload_model("tiny_loop")
        client.unload_model("small_file")
        yield running


@pytest.mark.parametrize("silent", [True, False])
def test_a_stream_is_told_at_its_start(server: TritonServer, beckett: NDArray[np.float32], silent: bool) -> None:
    caller = Caller(server)
    try:
        caller.send(np.zeros(1600, np.float32) if silent else beckett, 78, start=True, model="tiny")
        if not silent:
            caller.send(beckett[:0], 78, end=True)
        with pytest.raises(
            InferenceServerException, match=r"\[overloaded\] model is tiny: tiny_loop is not loaded"
        ) as refused:
            caller.until_over()
        assert "v2/repository/models/tiny_loop/load" in str(refused.value)
    finally:
        caller.client.stop_stream(cancel_requests=True)
        caller.client.close()


@pytest.fixture(scope="module")
def gateway(server: TritonServer) -> Iterator[RunningGateway]:
    running = RunningGateway(server.grpc_endpoint, {})
    yield running
    running.stop()


def test_the_client_tells_them_apart(server: TritonServer) -> None:
    with AsrClient(server.grpc_endpoint) as client:
        assert client.recognizers() == ["", "small"]
        assert client.not_loaded() == {"": [], "small": ["small_file"], "tiny": ["tiny", "tiny_file", "tiny_loop"]}


@pytest.mark.parametrize(("model", "missing"), [("tiny", "tiny_loop and no tiny_file"), ("small", "small_file")])
def test_the_gateway_does_not_take_another_for_files(
    gateway: RunningGateway, beckett_path: Path, model: str, missing: str
) -> None:
    with (
        OpenAI(api_key="any", base_url=f"{gateway.url}/v1", max_retries=0) as client,
        pytest.raises(InternalServerError, match="is not loaded: the servers have no") as refused,
    ):
        client.audio.transcriptions.create(file=beckett_path, model=model)
    assert refused.value.code == "model_not_loaded"


def test_nor_for_live_audio(gateway: RunningGateway) -> None:
    def first(model: str) -> dict[str, object]:
        with connect(f"ws://{gateway.address}/v1/stream") as socket:
            socket.send(json.dumps({"type": "start", "model": model}))
            socket.send(bytes(3_200))
            socket.send(json.dumps({"type": "end"}))
            return next((json.loads(each) for each in socket), {})

    assert first("small") == {}
    assert first("tiny")["error"]["code"] == "model_not_loaded"  # type: ignore[index]
