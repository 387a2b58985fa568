"""What other people's clients rely on: names and types of the outputs in every config.pbtxt, and the codes of the errors."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from asrloop.assembly import INBOX_OF_BATCH
from asrloop.config import AudioSettings
from asrloop.engine.inputs import cancel_key_of, deadline_of, named_key, request_of, rows_of
from asrloop.engine.metrics import ENGINE_METRICS, REQUESTS
from asrloop.engine.outputs import (
    CANCELLED,
    LIVE_OUTPUTS,
    OUTPUTS,
    PROGRESS,
    Segment,
    Transcript,
    TranscriptWord,
    tensors_of,
)
from asrloop.errors import ERRORS, InvalidAudio, InvalidOption, RequestError
from tests.conftest import ROOT
from tests.engine.test_engine import CountingFamily

MODELS = ROOT / "model_repository"


def config(model: str) -> Any:
    """The model's config.pbtxt."""
    return text_format.Parse((MODELS / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


@pytest.mark.parametrize("model", ["decoder_loop", "asr_ensemble", "asr_file"])
def test_every_config_declares_the_outputs(model: str) -> None:
    declared = [
        (output.name, model_config_pb2.DataType.Name(output.data_type), list(output.dims))
        for output in config(model).output
    ]
    expected = [*OUTPUTS, *LIVE_OUTPUTS, CANCELLED, PROGRESS] if model == "decoder_loop" else OUTPUTS
    assert declared == [(output.name, output.triton_type, list(output.dims)) for output in expected]


@pytest.mark.parametrize("model", ["asr_ensemble", "asr_file"])
def test_every_ensemble_passes_all_outputs_of_the_loop_on(model: str) -> None:
    *_, last = config(model).ensemble_scheduling.step
    assert last.model_name == "decoder_loop"
    assert dict(last.output_map) == {output.name: output.name for output in OUTPUTS}


def test_a_full_batch_fits_into_the_inbox() -> None:
    limits = {path.parent.name: config(path.parent.name).max_batch_size for path in MODELS.glob("*/config.pbtxt")}
    assert set(limits.values()) - {0} == {INBOX_OF_BATCH}, limits


def test_rows_are_padded_to_the_longest() -> None:
    heard = Transcript(
        "a b",
        [5, 6],
        [0.5, 1.0],
        [" a", " b"],
        0.5,
        False,
        [Segment("a", 0, 1), Segment("b", 2, 3)],
        [TranscriptWord("a", 0.9, (0.5, 0.75), 0.75), TranscriptWord(" b", 0.25, (1.0, 1.0), 0.5)],
        language="de",
        duration=3.5,
        log_probs=[-0.5, -1.0],
    )
    found = tensors_of([heard, Transcript("", [], [], [])])
    assert found["TRANSCRIPTS"].tolist() == [[b"a b"], [b""]]
    assert found["TOKENS"].tolist() == [[5, 6], [-1, -1]]
    assert found["TOKEN_TIMES"].tolist() == [[0.5, 1.0], [-1.0, -1.0]]
    assert found["TOKEN_PIECES"].tolist() == [[b" a", b" b"], [b"", b""]]
    assert found["TOKEN_LOG_PROBS"].tolist() == [[-0.5, -1.0], [-1.0, -1.0]]
    assert found["SEGMENTS"].tolist() == [[b"a", b"b"], [b"", b""]]
    assert found["SEGMENT_TIMES"].tolist() == [[[0, 1], [2, 3]], [[-1, -1], [-1, -1]]]
    assert found["CONFIDENCE"].tolist() == [[0.5], [0.0]]
    assert found["COMPLETE"].tolist() == [[False], [True]]
    assert found["DURATION"].tolist() == [[3.5], [0.0]]
    assert found["LANGUAGE"].tolist() == [[b"de"], [b""]]
    assert found["WORD_PROBABILITIES"].tolist() == [[np.float32(0.9), 0.25], [-1.0, -1.0]]
    assert found["WORD_TEXTS"].tolist() == [[b"a", b" b"], [b"", b""]]
    assert found["WORDS"].tolist() == [[b"a", b"b"], [b"", b""]]
    assert found["WORD_TIMES"].tolist() == [[[0.5, 0.75], [1.0, 1.0]], [[-1, -1], [-1, -1]]]
    assert found["WORD_CONFIDENCES"].tolist() == [[0.75, 0.5], [-1.0, -1.0]]
    assert tensors_of([heard], frozenset({"TOKENS", "WORDS"})).keys() == {"TOKENS", "WORDS"}
    outputs = (*OUTPUTS, *LIVE_OUTPUTS)
    assert {name: array.dtype for name, array in found.items()} == {one.name: np.dtype(one.dtype) for one in outputs}


def test_every_error_has_a_code_of_its_own_and_its_text_begins_with_it() -> None:
    codes = [error.code for error in ERRORS]
    assert len(set(codes)) == len(codes)
    for error in ERRORS:
        assert str(error("why")) == f"[{error.code}] why"
        assert error.triton_code in ("INVALID_ARG", "UNAVAILABLE", "CANCELLED", "INTERNAL")
    assert set(ERRORS) == all_subclasses(RequestError)


def all_subclasses(kind: type) -> set[type]:
    return {found for direct in kind.__subclasses__() for found in (direct, *all_subclasses(direct))}


def test_every_outcome_is_counted_and_every_metric_named_well() -> None:
    assert set(REQUESTS.outcomes) == {"ok", *(error.outcome for error in ERRORS)}
    assert all(re.fullmatch(r"asrloop_[a-z_]+", spec.name) for spec in ENGINE_METRICS)


@pytest.mark.parametrize("sent", [{}, {"WAV_LENS": np.array([[1]], np.int32)}])
def test_a_request_without_audio_is_refused(sent: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"\[invalid_audio\] inputs are .*: send WAV"):
        rows_of(sent, {}, AudioSettings())


SECOND = np.zeros((1, 16_000), np.float32)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"WAV": SECOND, "SAMPLES": SECOND}, "inputs are WAV, SAMPLES: send WAV for PCM, or SAMPLES"),
        ({"SAMPLES": SECOND, "WAV_LENS": np.array([[1]], np.int32)}, "inputs are WAV_LENS, SAMPLES: send WAV"),
        ({"SAMPLES": SECOND, "REST": np.array([[b"x" * 10_000]], np.object_)}, "REST is 'xxx.{0,40}: leave it out"),
        ({"SAMPLES": SECOND, "REST_SECONDS": np.array([[np.nan]], np.float32)}, "REST_SECONDS is nan: send a number"),
        ({"SAMPLES": SECOND, "MISSING_SECONDS": np.array([[np.inf]], np.float32)}, "MISSING_SECONDS is inf: send a"),
        ({"SAMPLES": SECOND, "MISSING_SECONDS": np.array([[-1]], np.float32)}, r"MISSING_SECONDS is -1: .* in 0\.\."),
        *(
            (
                {"SAMPLES": SECOND, "SAMPLE_LENS": np.array([lengths], np.int32)},
                rf"SAMPLE_LENS is {re.escape(str(lengths))}: send 1 or more for each channel, together at most the 16000",
            )
            for lengths in ([], [0, 0], [3, 0, 5], [-5, 16_005], [2**31 - 1, -(2**31)], [2**31 - 1] * 2)
        ),
        ({"SAMPLES": SECOND, "SAMPLE_LENS": np.ones((1, 1000), np.int32)}, "SAMPLE_LENS has 1000 .*: the limit is 8"),
        (
            {"SAMPLES": SECOND, "SAMPLE_LENS": np.array([[8_000, 8_000]], np.int32)},
            "SAMPLE_LENS has 2 channels in a row: send one, or diarize=channels with them",
        ),
    ],
)
def test_what_only_audio_frontend_sends_is_checked_too(sent: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidAudio, match=rf"\[invalid_audio\] {message}"):
        request_of(sent, {}, CountingFamily(), AudioSettings(), on_done=lambda _: None)


def test_an_order_names_a_key_that_is_not_long() -> None:
    """The keys of cancellations are kept for a minute."""
    with pytest.raises(InvalidOption, match=r"\[invalid_option\] cancel is .{0,90}: send the cancel_key of a request"):
        named_key({"cancel": "k" * 1001}, "cancel")
    assert named_key({"progress": "k" * 1000}, "progress") == "k" * 1000
    assert named_key({"cancel": False}, "cancel") == named_key({"cancel": 5}, "cancel") == ""


def test_samples_are_16_khz_whatever_rate_the_caller_of_a_file_names() -> None:
    wav = np.zeros((2, 8_000), np.float32)
    assert rows_of({"WAV": wav}, {"sample_rate": 8_000}, AudioSettings())[1] == 8_000
    assert rows_of({"SAMPLES": wav}, {"sample_rate": 8_000}, AudioSettings())[1] == 16_000


@pytest.mark.parametrize("key", ["short", 17, True, ["a" * 16], "k" * 1001])
def test_a_cancel_key_that_could_be_guessed_is_refused(key: object) -> None:
    with pytest.raises(RequestError, match=r"\[invalid_audio\] cancel_key is .*: it must be a string of at least 16"):
        cancel_key_of({"cancel_key": key})
    assert cancel_key_of({}) == cancel_key_of({"cancel_key": ""}) == ""
    assert cancel_key_of({"cancel_key": "k" * 16}) == "k" * 16


def test_the_time_of_a_request_counts_from_the_first_step() -> None:
    assert deadline_of({}, 0, now=5.0) is None
    assert deadline_of({}, 2_000_000, now=5.0) == 7.0
    assert deadline_of({"DEADLINE": np.array([[6_000_000]])}, 2_000_000, now=5.0) == 6.0
    assert deadline_of({"DEADLINE": np.array([[-1]])}, 2_000_000, now=5.0) is None


def test_a_model_needs_no_file_of_another_model() -> None:
    for path in [*MODELS.glob("*/1/model.py"), *Path(ROOT / "asrloop/tritonserver/backends").glob("*/model.py")]:
        assert not re.search(r"\.parent|\.\./|__file__", path.read_text()), path
