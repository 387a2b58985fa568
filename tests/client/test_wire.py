"""Requests and replies, checked against Triton's own message classes, and the memory they take."""

import platform
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from asrloop_client import Segment, Word, wire
from asrloop_client.audio import EncodedFile, Pcm
from asrloop_client.errors import InvalidAudio, ServerFailure
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2


def parse(raw: bytes) -> service_pb2.ModelInferRequest:
    return service_pb2.ModelInferRequest.FromString(raw)


def samples_request(samples: np.ndarray, rate: int = 16000, **parameters: Any) -> bytes:
    return wire.Request(Pcm(samples, rate), "m", parameters, "id-1").serialised(2.5)


@given(st.one_of(st.integers(0, 40), st.sampled_from([127, 128, 16383, 16384, 160_000])))
def test_samples_arrive_bit_for_bit(count: int) -> None:
    samples = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    request = parse(samples_request(samples, 8000))
    assert (request.model_name, request.id) == ("m", "id-1")
    assert [(each.name, each.datatype, list(each.shape)) for each in request.inputs] == [("WAV", "FP32", [1, count])]
    assert request.parameters["sample_rate"].int64_param == 8000
    assert list(request.raw_input_contents) == [samples.tobytes()]


def test_parameters_keep_their_types() -> None:
    parameters = {"a": True, "b": 2, "c": 0.5, "d": "x"}
    request = parse(samples_request(np.zeros(1, np.float32), **parameters))
    found = {name: value.WhichOneof("parameter_choice") for name, value in request.parameters.items()}
    assert found == {
        "a": "bool_param",
        "b": "int64_param",
        "c": "double_param",
        "d": "string_param",
        "sample_rate": "int64_param",
        "timeout": "int64_param",
        "cancel_key": "string_param",
    }
    assert request.parameters["timeout"].int64_param == 2_500_000, "Triton's unit is the microsecond"


def test_a_parameter_of_another_type_is_refused() -> None:
    with pytest.raises(InvalidAudio, match="parameter x is a list: give a str, bool, int or float"):
        samples_request(np.zeros(1, np.float32), x=[])


def test_each_attempt_has_a_cancel_key_of_its_own() -> None:
    request = wire.Request(Pcm(np.zeros(4, np.float32), 16_000), "asr_ensemble", {}, "one")
    keys = []
    for _ in range(2):
        message = service_pb2.ModelInferRequest.FromString(request.serialised(1.0))
        assert message.parameters["cancel_key"].string_param == request.cancel_key
        keys.append(request.cancel_key)
    assert keys[0] != keys[1], "a server that was told to end the first attempt would refuse the second"
    assert min(map(len, keys)) >= 16


def test_a_file_goes_as_one_string() -> None:
    request = parse(wire.Request(EncodedFile(b"RIFF..."), "asr_file", {}, "id").serialised(1))
    assert [(each.name, each.datatype, list(each.shape)) for each in request.inputs] == [("AUDIO", "BYTES", [1, 1])]
    assert list(request.raw_input_contents) == [struct.pack("<I", 7) + b"RIFF..."]


def response(**outputs: bytes) -> service_pb2.ModelInferResponse:
    message = service_pb2.ModelInferResponse(model_name="m")
    for name, raw in outputs.items():
        message.outputs.add(name=name)
        message.raw_output_contents.append(raw)
    return message


TEXT = struct.pack("<I", 5) + "höra".encode()
TOKENS = np.array([3, 4, 5, -1, -1], np.int32).tobytes()


def test_a_reply_loses_its_padding_whatever_the_order_of_outputs() -> None:
    reply = wire.read_reply(response(TOKENS=TOKENS, TRANSCRIPTS=TEXT), "host:1")
    assert (reply.text, reply.tokens, reply.token_times) == ("höra", (3, 4, 5), ())


def test_times_are_read_when_the_server_sends_them() -> None:
    times = np.array([0.5, 1.0, 1.5, -1, -1], np.float32).tobytes()
    reply = wire.read_reply(response(TRANSCRIPTS=TEXT, TOKENS=TOKENS, TOKEN_TIMES=times, NEWER=b""), "host:1")
    assert reply.token_times == (0.5, 1.0, 1.5)


def texts(*given: str) -> bytes:
    return b"".join(struct.pack("<I", len(each.encode())) + each.encode() for each in given)


def floats(*given: float) -> bytes:
    return np.array(given, np.float32).tobytes()


@pytest.mark.parametrize(("kind", "field"), [(Word, "words"), (Segment, "segments")])
def test_words_and_segments_are_read_when_the_server_sends_them(kind: type[Word | Segment], field: str) -> None:
    outputs = {f"{field.upper()}": texts("a", "b", ""), f"{field[:-1].upper()}_TIMES": floats(0, 1, 2, 3, -1, -1)}
    reply = wire.read_reply(response(TRANSCRIPTS=TEXT, TOKENS=TOKENS, **outputs), "host:1")
    assert getattr(reply, field) == (kind("a", 0, 1), kind("b", 2, 3))


def test_words_are_the_servers_and_nothing_is_guessed_from_pieces() -> None:
    pieces = {"TOKEN_PIECES": texts(" can", "cel", " the"), "TOKEN_TIMES": floats(0.1, 0.3, 0.5)}
    for outputs in (
        {},
        {"WORDS": b"", "WORD_TIMES": b""},
        {"WORDS": texts("", ""), "WORD_TIMES": floats(-1, -1, -1, -1)},
    ):
        reply = wire.read_reply(response(TRANSCRIPTS=TEXT, TOKENS=TOKENS, **pieces, **outputs), "host:1")
        assert (reply.words, len(reply.token_times)) == ((), 3)
    outputs = {"WORDS": texts("cancel", "the", "door."), "WORD_TIMES": floats(0.25, 0.5, 0.5, 0.75, 0.875, 1.125)}
    reply = wire.read_reply(response(TRANSCRIPTS=TEXT, TOKENS=TOKENS, **pieces, **outputs), "host:1")
    assert reply.words == (Word("cancel", 0.25, 0.5), Word("the", 0.5, 0.75), Word("door.", 0.875, 1.125))


def test_the_confidence_of_a_word_is_the_servers_or_none() -> None:
    said = {
        "TRANSCRIPTS": TEXT,
        "TOKENS": TOKENS,
        "WORDS": texts("a", "b", ""),
        "WORD_TIMES": floats(0, 1, 2, 3, -1, -1),
    }
    reply = wire.read_reply(response(**said, WORD_CONFIDENCES=floats(0.5, 0.75, -1)), "host:1")
    assert [word.confidence for word in reply.words] == [0.5, 0.75]
    for outputs in ({}, {"WORD_CONFIDENCES": b""}, {"WORD_CONFIDENCES": floats(0.5)}):
        reply = wire.read_reply(response(**said, **outputs), "host:1")
        assert [word.confidence for word in reply.words] == [None, None]


def test_without_segments_there_is_one_of_all_the_text_or_none() -> None:
    def segments(text: bytes, duration: float | None, **outputs: bytes) -> tuple[Segment, ...]:
        return wire.read_reply(
            response(TRANSCRIPTS=text, TOKENS=TOKENS, **outputs), "host:1", lambda: duration
        ).segments

    sent = {"SEGMENTS": texts("a", "b"), "SEGMENT_TIMES": floats(0, 1, 2, 3)}
    assert segments(texts("a b"), 9.0, **sent) == (Segment("a", 0, 1), Segment("b", 2, 3))
    assert segments(texts("a b"), 9.0) == (Segment("a b", 0.0, 9.0),)
    words = {"WORDS": texts("a", "b"), "WORD_TIMES": floats(0.5, 1, 2, 2.5)}
    assert segments(texts("a b"), None, **words) == (Segment("a b", 0.0, 2.5),)
    assert segments(texts(""), 9.0) == ()


def test_an_empty_tensor_of_times_is_no_times() -> None:
    assert wire.read_reply(response(TRANSCRIPTS=TEXT, TOKENS=TOKENS, TOKEN_TIMES=b""), "host:1").token_times == ()


def test_the_length_is_the_servers_and_else_the_headers() -> None:
    said = {"TRANSCRIPTS": TEXT, "TOKENS": TOKENS}
    assert wire.read_reply(response(**said, DURATION=struct.pack("<f", 8.8)), "host:1", lambda: 4.4).duration == 8.8
    assert wire.read_reply(response(**said), "host:1", lambda: 4.4).duration == 4.4
    assert wire.read_reply(response(**said), "host:1").duration is None


def test_a_reply_of_another_model_is_a_clear_error() -> None:
    with pytest.raises(ServerFailure, match=r"model m sent \['LOGITS'\] without \['TOKENS', 'TRANSCRIPTS'\]"):
        wire.read_reply(response(LOGITS=b""), "host:1")


FAULTS = '''
import resource
from asrloop_client.background import keep_large_blocks
def faults():
    """Of 50 calls on ten seconds of audio, each of which holds four copies of its message."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        copies = [b"x" * 640_000 for _ in range(4)]
        del copies
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
keep_large_blocks()
faults()
print(before, faults())
'''


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other rules")
def test_blocks_of_ten_seconds_of_audio_are_not_faulted_in_again() -> None:
    result = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, result.stdout.split())
    assert before > 50, "glibc reuses such blocks by itself: keep_large_blocks can go"
    assert after * 10 < before


def test_words_have_confidences_and_tokens_probabilities_where_the_server_sends_them() -> None:
    words = {"WORDS": texts("a", "b"), "WORD_TIMES": floats(0.5, 1, 2, 2.5), "WORD_CONFIDENCES": floats(0.75, 0.5)}
    tokens = {"TOKEN_PIECES": texts(" a", " b", ".", ""), "TOKEN_LOG_PROBS": floats(-1, -0.5, 0, -1)}
    reply = wire.read_reply(response(TRANSCRIPTS=TEXT, TOKENS=TOKENS, **words, **tokens), "host:1")
    assert reply.words == (Word("a", 0.5, 1, 0.75), Word("b", 2, 2.5, 0.5))
    assert reply.token_pieces == (" a", " b", ".")
    assert reply.token_log_probs == (-1, -0.5, 0)


@pytest.mark.parametrize(
    ("outputs", "language"), [({}, None), ({"LANGUAGE": texts("")}, None), ({"LANGUAGE": texts("de")}, "de")]
)
def test_the_language_is_the_servers_or_none(outputs: dict[str, bytes], language: str | None) -> None:
    assert wire.read_reply(response(TRANSCRIPTS=TEXT, TOKENS=TOKENS, **outputs), "host:1").language == language
