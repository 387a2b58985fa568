"""Requests and replies of ModelInfer. See the KServe v2 protocol and Triton's `grpc_service.proto`.

Requests are made as serialised bytes with one copy of the audio: through the message class it would be copied three times,
which would be most of the client's time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import service_pb2

from asrloop_client.audio import Samples
from asrloop_client.errors import InvalidAudio, ServerFailure

Parameter = str | bool | int | float

_TOKEN_PADDING = -1
_LARGE_BLOCK_BYTES = 16 << 20
_LENGTH_DELIMITED = 2
_RAW_INPUT_TAG = bytes([service_pb2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED])


@dataclass(frozen=True)
class Options:
    """What every request holds besides its audio."""

    parameters: Mapping[str, Parameter]
    request_id: str
    cancel_key: str
    """Told to nobody but the server: whoever knows it can end the request."""
    timeout: float
    """Seconds. Triton passes it on to the steps of an ensemble, which a cancellation does not reach (server #6739)."""


def keep_large_blocks() -> None:
    """Let freed memory of up to 32 MiB be reused, as glibc does by itself once the program has freed a block of 16 MiB.

    glibc keeps no more free memory than twice the largest block it has seen freed, and a call holds several copies of its
    message at once: without this the kernel takes them all back and the next call faults their pages in again, which
    costs more than all else the client does. The block is never touched and takes no memory; other allocators do not
    notice. See "dynamic mmap threshold" in mallopt(3).
    """
    bytes(_LARGE_BLOCK_BYTES)


def samples_request(model: str, samples: Samples, sample_rate: int, options: Options) -> bytes:
    """A ModelInferRequest with WAV FP32 [1, N]; `samples` [N], contiguous."""
    request = _samples_request(model, samples.size, sample_rate, options)
    return _serialise(request, samples.data.cast("B"))


def region_request(model: str, region: str, count: int, sample_rate: int, options: Options) -> bytes:
    """A ModelInferRequest whose WAV FP32 [1, count] lies at the start of the shared memory region `region`."""
    request = _samples_request(model, count, sample_rate, options)
    wav = request.inputs[0]
    wav.parameters["shared_memory_region"].string_param = region
    wav.parameters["shared_memory_byte_size"].int64_param = 4 * count
    return _serialise(request)


def file_request(model: str, content: bytes, options: Options) -> bytes:
    """A ModelInferRequest with AUDIO STRING [1, 1]: the bytes of an audio file."""
    request = _request(model, options)
    request.inputs.add(name="AUDIO", datatype="BYTES", shape=[1, 1])
    return _serialise(request, struct.pack("<I", len(content)), content)


def cancel_request(model: str, cancel_key: str) -> bytes:
    """A ModelInferRequest that has the decode loop end the requests with this key. The one sample is not transcribed."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.parameters["cancel"].string_param = cancel_key
    request.inputs.add(name="SAMPLES", datatype="FP32", shape=[1, 1])
    request.inputs.add(name="SAMPLE_LENS", datatype="INT32", shape=[1, 1])
    request.raw_input_contents.extend((struct.pack("<f", 0.0), struct.pack("<i", 1)))
    return bytes(request.SerializeToString())


@dataclass(frozen=True)
class Reply:
    """A ModelInferResponse's outputs; see Transcript."""

    text: str
    tokens: tuple[int, ...]
    token_times: tuple[float, ...] | None
    token_pieces: tuple[str, ...] | None


def read_reply(response: Any, address: str) -> Reply:
    """TRANSCRIPTS and TOKENS, and TOKEN_TIMES and TOKEN_PIECES if the server sent them; other outputs are ignored."""
    outputs = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=True))
    missing = {"TRANSCRIPTS", "TOKENS"} - outputs.keys()
    if missing:
        raise ServerFailure(
            f"{address}: model {response.model_name} sent {sorted(outputs)} without {sorted(missing)}. "
            "Check `model`: it has to be an asrloop model."
        )
    tokens = _numbers("i", outputs["TOKENS"])
    if _TOKEN_PADDING in tokens:
        tokens = tokens[: tokens.index(_TOKEN_PADDING)]
    # A model without times sends none, or an empty tensor.
    times = _numbers("f", outputs.get("TOKEN_TIMES", b""))
    pieces = _strings(outputs.get("TOKEN_PIECES", b""))
    (text, *_) = _strings(outputs["TRANSCRIPTS"])
    count = len(tokens)
    return Reply(text, tokens, times[:count] if times else None, pieces[:count] if pieces else None)


def _samples_request(model: str, count: int, sample_rate: int, options: Options) -> Any:
    request = _request(model, options)
    request.parameters["sample_rate"].int64_param = sample_rate
    request.inputs.add(name="WAV", datatype="FP32", shape=[1, count])
    return request


def _request(model: str, options: Options) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, id=options.request_id)
    request.parameters["timeout"].int64_param = max(1, int(options.timeout * 1e6))
    request.parameters["cancel_key"].string_param = options.cancel_key
    for name, value in options.parameters.items():
        # bool before int: a bool is an int in Python.
        if isinstance(value, bool):
            request.parameters[name].bool_param = value
        elif isinstance(value, int):
            request.parameters[name].int64_param = value
        elif isinstance(value, float):
            request.parameters[name].double_param = value
        elif isinstance(value, str):
            request.parameters[name].string_param = value
        else:
            raise InvalidAudio(f"parameter {name} is a {type(value).__name__}: give a str, bool, int or float")
    return request


def _serialise(request: Any, *raw_input: bytes | memoryview) -> bytes:
    """`request` followed by one `raw_input_contents` entry, the concatenation of `raw_input`.

    Fields may come in any order, so a message may be continued by appending further fields ("Message Structure" in the
    protobuf encoding specification).
    """
    head: bytes = request.SerializeToString()
    if not raw_input:
        return head
    return b"".join((head, _RAW_INPUT_TAG, _varint(sum(len(part) for part in raw_input)), *raw_input))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _numbers(kind: str, raw: bytes) -> tuple[Any, ...]:
    """The elements of a little-endian tensor of 4-byte numbers; for so few struct is faster than numpy."""
    return struct.unpack(f"<{len(raw) // 4}{kind}", raw)


def _strings(raw: bytes) -> tuple[str, ...]:
    """The elements of a string tensor: each is its length and its bytes."""
    strings, position = [], 0
    while position < len(raw):
        (length,) = struct.unpack_from("<I", raw, position)
        strings.append(raw[position + 4 : position + 4 + length].decode("utf-8"))
        position += 4 + length
    return tuple(strings)
