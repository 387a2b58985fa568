"""A loop that is loaded again while it works: callers get their answers, metrics go on, and the server stays whole."""

import os
import re
import shutil
import threading
import urllib.request
from pathlib import Path

import pytest
import tritonclient.grpc as triton_grpc
from asrloop_client import AsrClient

from asrloop.tritonserver.process import TritonServer
from asrloop.tritonserver.processes import model_processes
from tests.conftest import BECKETT, StartServer, eventually, words


def counted(server: TritonServer) -> float:
    """Requests that were answered, as /metrics has it; -1 where it has none."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        found = re.search(r'asrloop_requests_total{outcome="ok"} (\d+)', answer.read().decode())
    return float(found[1]) if found else -1


@pytest.mark.slow
def test_a_loop_that_is_loaded_again_while_files_are_under_way(
    start_server: StartServer, model_repository: Path, call_path: Path, beckett_path: Path, tmp_path: Path
) -> None:
    made = tmp_path / "model_repository"
    shutil.copytree(model_repository, made, ignore=shutil.ignore_patterns("__pycache__"))
    answers: list[str] = []
    with (
        start_server(made, ["--model-control-mode=explicit", "--load-model=*"]) as server,
        AsrClient(server.grpc_endpoint) as client,
        triton_grpc.InferenceServerClient(server.grpc_endpoint) as triton,
    ):

        def call(diarize: bool | str) -> None:
            answers.append(words(client.transcribe(call_path, timeout=60, diarize=diarize).text))

        def answered(number: float) -> bool:
            return eventually(lambda: counted(server) >= number)

        (first,) = {client.transcribe(beckett_path).text}
        assert answered(1)
        old = model_processes(server.pid)
        for cycle in range(3):
            callers = [threading.Thread(target=call, args=(how,)) for how in (True, "channels", True, "channels")]
            for caller in callers:
                caller.start()
            if cycle == 1:
                triton.unload_model("decoder_loop")
            else:
                os.utime(made / "decoder_loop" / "1" / "model.py")  # or there is nothing new to load
            triton.load_model("decoder_loop")
            for caller in callers:
                caller.join(90)
            assert answered(4 * (cycle + 1)), "the counters go on"
            assert client.transcribe(beckett_path, timeout=60).text == first
        assert len(answers) == 12
        assert all(BECKETT in each for each in answers)
        assert eventually(lambda: len(model_processes(server.pid)) == len(old))
        assert eventually(lambda: not Path(f"/proc/{old['decoder_loop']}").exists())
