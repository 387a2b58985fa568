"""Every request parameter to every model of a real server: honoured, or refused with what is possible; Triton's own pass."""

import io
import itertools
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from asrloop.engine.parameters import PARAMETERS, Door
from asrloop.tritonserver.process import TritonServer
from tests.conftest import StartServer
from tests.model_repository.test_live import Caller

VALUES: dict[type, object] = {str: "something", bool: True, int: 2, float: 2.5}
SERVED: dict[str, object] = {
    "sample_rate": 16_000,
    "cancel_key": "a key of 16 letters or more",
    "cancel": "",
    "progress": "a key of nobody",
    "language": "en-GB",
    "task": "transcribe",
    "word_times": True,
    "key_terms": "Szczecin\nNew York",
    "key_terms_boost": 2.5,
    "diarize": True,
    "speakers": 2,
    "model": "",
    "turn_detection": "semantic",
    "silence_ms": 400,
    "turn_threshold": 0.5,
    "longest_pause_ms": 2000,
    "speech_threshold": 0.5,
    "padding_ms": 300,
    "end_segment": True,
}
"""A good value of each parameter that is served; for others see VALUES."""

WITH: dict[str, dict[str, object]] = {
    "turn_threshold": {"turn_detection": "semantic"},
    "longest_pause_ms": {"turn_detection": "semantic"},
    "speakers": {"diarize": True},
}
"""What a parameter goes with."""

SEQUENCES = itertools.count(1)
FORWARDED = {"x-request-id": "7", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "authorization": "Bearer nobody"}


@pytest.fixture(scope="module")
def server(start_server: StartServer, model_repository: Any) -> Iterator[TritonServer]:
    """A server that forwards headers as parameters."""
    pattern = "(x-.*|traceparent|authorization)"
    with start_server(model_repository, [f"--grpc-header-forward-pattern={pattern}"]) as running:
        yield running


@pytest.fixture(scope="module")
def second(beckett: NDArray[np.float32]) -> NDArray[np.float32]:
    return beckett[:16_000]


def answer(server: TritonServer, model: str, samples: NDArray[np.float32], /, **parameters: Any) -> str:
    """The error of a request, or "" when it was answered."""
    if model == "asr_file":
        file = io.BytesIO()
        soundfile.write(file, samples, 16_000, format="WAV")
        tensor = triton_grpc.InferInput("AUDIO", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[file.getvalue()]], np.object_))
    else:
        tensor = triton_grpc.InferInput("WAV", [1, samples.size], "FP32")
        tensor.set_data_from_numpy(samples[None])
    with triton_grpc.InferenceServerClient(server.grpc_endpoint) as client:
        try:
            client.infer(model, [tensor], parameters=parameters, headers=FORWARDED, client_timeout=60)
        except InferenceServerException as error:
            return str(error)
    return ""


def streamed(server: TritonServer, samples: NDArray[np.float32], door: Door, /, **parameters: Any) -> str:
    """The error of a stream with these parameters at its start or with a chunk, or "" when it went well."""
    caller, sequence = Caller(server), next(SEQUENCES)
    try:
        caller.send(samples, sequence, start=True, **(parameters if door is Door.START else {}))
        caller.send(samples, sequence, end=True, **(parameters if door is Door.CHUNK else {}))
        caller.until_over()
    except InferenceServerException as error:
        return str(error)
    finally:
        caller.client.stop_stream(cancel_requests=True)
        caller.client.close()
    return ""


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("model", ["asr_ensemble", "asr_file", "decoder_loop", "start", "chunk"])
def test_every_parameter_is_honoured_or_refused(
    server: TritonServer, second: NDArray[np.float32], model: str, name: str
) -> None:
    parameter = PARAMETERS[name]
    value = SERVED[name] if name in SERVED else VALUES[parameter.kind]
    if model in ("start", "chunk"):
        door = Door.START if model == "start" else Door.CHUNK
        said = streamed(server, second, door, **{name: value}, **(WITH.get(name, {}) if model == "start" else {}))
    else:
        door = Door.REQUEST
        if name in ("cancel", "progress") and model != "decoder_loop":
            pytest.skip("an answer of another form, which an ensemble does not pass on")
        goes_with = WITH.get(name, {}) if door in parameter.doors else {}
        said = answer(server, model, second, **{name: value}, **goes_with)
    if door is not Door.REQUEST and name in ("diarize", "speakers"):
        assert "live audio does not tell speakers apart" in said
    if door not in parameter.doors:
        assert f"[invalid_option] {name} is no parameter here" in said
    elif name in SERVED:
        assert said == ""
    else:
        assert f"[invalid_option] {name} is " in said
        assert "this server does not serve it" in said


@pytest.mark.parametrize("model", ["asr_ensemble", "asr_file", "decoder_loop", "start"])
def test_a_language_that_is_not_served_is_refused(
    server: TritonServer, second: NDArray[np.float32], model: str
) -> None:
    is_stream = model == "start"
    given = {"language": "de"}
    said = streamed(server, second, Door.START, **given) if is_stream else answer(server, model, second, **given)
    assert "[invalid_option] language is 'de': the served model has en; send one of these, or auto" in said
    if not is_stream:
        assert "do you mean language?" in answer(server, model, second, langauge="en")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"turn_detection": "magic"}, "turn_detection is 'magic': send silence, semantic, none"),
        ({"silence_ms": 99}, "silence_ms is 99: send a number in 100..10000"),
        ({"silence_ms": -(2**62)}, "silence_ms is -4611686018427387904: send a number in 100..10000"),
        ({"silence_ms": 300, "turn_detection": "none"}, "it goes with silence and semantic only"),
        ({"turn_threshold": 1.01, "turn_detection": "semantic"}, "turn_threshold is 1.01: send a number in 0..1"),
        (
            {"turn_threshold": float("nan"), "turn_detection": "semantic"},
            "turn_threshold is nan: send a number in 0..1",
        ),
        ({"turn_threshold": 0.5}, "turn_threshold is 0.5, and turn_detection silence: it goes with semantic only"),
        ({"longest_pause_ms": 10**9, "turn_detection": "semantic"}, "send a number in 500..30000"),
        ({"speech_threshold": float("inf")}, "speech_threshold is inf: send a number in 0..1"),
        ({"padding_ms": 2001}, "padding_ms is 2001: send a number in 0..2000"),
    ],
)
def test_wrong_settings_of_turns_are_refused(
    server: TritonServer, second: NDArray[np.float32], given: dict[str, Any], message: str
) -> None:
    said = streamed(server, second, Door.START, **given)
    assert said.startswith("[invalid_option] ")
    assert message in said


def test_http_sends_parameters_too(server: TritonServer, second: NDArray[np.float32]) -> None:
    def post(**parameters: Any) -> str:
        body = {
            "inputs": [{"name": "WAV", "shape": [1, second.size], "datatype": "FP32", "data": second.tolist()}],
            "parameters": parameters,
        }
        request = urllib.request.Request(
            f"http://{server.http_endpoint}/v2/models/asr_ensemble/infer", json.dumps(body).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                outputs = {output["name"]: output["data"] for output in json.load(response)["outputs"]}
                return str(outputs["TRANSCRIPTS"][0])
        except urllib.error.HTTPError as error:
            return str(json.load(error)["error"])

    assert post() == post(language="en", word_times=False, binary_data_output=False) != ""
    assert post(key_terms="Szczecin", key_terms_boost=2.5) != ""
    assert "[invalid_option] speakers is 2, and diarize is not true: send diarize=true with it" in post(speakers=2)


def test_a_segment_that_is_longer_than_a_window_stops_the_start(
    start_server: StartServer, model_repository: Any
) -> None:
    with (
        pytest.raises(Exception, match=r"live.segment ends at 20 s, the model's windows at 15 s"),
        start_server(model_repository, ASRLOOP_LIVE__SEGMENT="[10, 20]"),
    ):
        pass
