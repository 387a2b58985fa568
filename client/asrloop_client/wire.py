"""Requests and replies of ModelInfer. See the KServe v2 protocol and Triton's `grpc_service.proto`.

Requests are made as serialised bytes with one copy of the audio: through the message class it would be copied three times,
which would be most of the client's time.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from asrloop_client.audio import EncodedFile, Pcm
from asrloop_client.errors import InvalidAudio, ServerFailure
from asrloop_client.settings import Parameter
from asrloop_client.transcript import Progress, StreamEvent, Transcript, segments_of, words_of

_TOKEN_PADDING = -1
_LARGE_BLOCK_BYTES = 16 << 20
_LENGTH_DELIMITED = 2
_RAW_INPUT_TAG = bytes([service_pb2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED])


def keep_large_blocks() -> None:
    """Let freed memory of up to 32 MiB be reused, as glibc does by itself once the program has freed a block of 16 MiB.

    glibc keeps no more free memory than twice the largest block it has seen freed, and a call holds several copies of its
    message at once: without this the kernel takes them all back and the next call faults their pages in again, which
    costs more than all else the client does. The block is never touched and takes no memory; other allocators do not
    notice. See "dynamic mmap threshold" in mallopt(3).
    """
    bytes(_LARGE_BLOCK_BYTES)


class Request:
    """One transcription's ModelInferRequest; all but the server's timeout stays the same from attempt to attempt."""

    def __init__(
        self,
        audio: Pcm | EncodedFile,
        model: str,
        parameters: Mapping[str, Parameter],
        request_id: str,
    ) -> None:
        """WAV FP32 [1, N] of samples, which are contiguous; AUDIO STRING [1, 1] of a file."""
        self.model, self.request_id, self.duration = model, request_id, audio.duration
        self.cancel_key = uuid.uuid4().hex
        """Told to nobody but the server: who knows it can end the request."""
        own: dict[str, Parameter] = {}
        try:
            self._head = service_pb2.ModelInferRequest(model_name=model, id=request_id)
            self._raw: tuple[bytes | memoryview, ...]
            if isinstance(audio, EncodedFile):
                self._head.inputs.add(name="AUDIO", datatype="BYTES", shape=[1, 1])
                self._raw = (struct.pack("<I", len(audio.content)), audio.content)
            else:
                own["sample_rate"] = audio.sample_rate
                self._head.inputs.add(name="WAV", datatype="FP32", shape=[1, audio.samples.size])
                self._raw = (audio.samples.data.cast("B"),)
            for name, value in {**own, **parameters, "cancel_key": self.cancel_key}.items():
                _set(self._head.parameters[name], name, value)
        except (TypeError, ValueError) as error:
            # ValueError: an integer of more than 64 bits, or text that is no UTF-8.
            raise InvalidAudio(
                f"model {model!r}, request_id {request_id!r}, parameters {parameters}: {error}"
            ) from None

    @property
    def size(self) -> int:
        """Bytes of audio."""
        return sum(len(part) for part in self._raw)

    def serialised(self, timeout: float) -> bytes:
        """The message of an attempt that the server may work on for `timeout` s.

        Fields may come in any order, so a message may be continued by appending further fields ("Message Structure" in the
        protobuf encoding specification).
        """
        self._head.parameters["timeout"].int64_param = max(1, int(timeout * 1e6))
        return b"".join((self._head.SerializeToString(), _RAW_INPUT_TAG, _varint(self.size), *self._raw))


def control_request(model: str, order: str, cancel_key: str) -> bytes:
    """A ModelInferRequest that has the decode loop `cancel` the requests with this key, or tell their `progress`.

    The one sample is not transcribed.
    """
    request = service_pb2.ModelInferRequest(model_name=model)
    request.parameters[order].string_param = cancel_key
    request.inputs.add(name="SAMPLES", datatype="FP32", shape=[1, 1])
    request.inputs.add(name="SAMPLE_LENS", datatype="INT32", shape=[1, 1])
    request.raw_input_contents.extend((struct.pack("<f", 0.0), struct.pack("<i", 1)))
    return bytes(request.SerializeToString())


def chunk_request(
    model: str, sequence: str, samples: Any, *, start: Mapping[str, Parameter] | None = None, end: bool = False
) -> Any:
    """The ModelInferRequest of a chunk float32 or int16 [N] of live audio: START with parameters of its own, END, or between.

    START's id is that of the sequence. Raises InvalidAudio.
    """
    request = service_pb2.ModelInferRequest(model_name=model, id="" if start is None else sequence)
    own: dict[str, Parameter] = {"sequence_id": sequence, "sequence_start": start is not None, "sequence_end": end}
    try:
        for key, value in {**(start or {}), **own, "triton_enable_empty_final_response": True}.items():
            _set(request.parameters[key], key, value)
    except (TypeError, ValueError) as error:
        raise InvalidAudio(f"model {model!r}, parameters {start}: {error}") from None
    name, datatype = ("PCM", "INT16") if samples.dtype == np.int16 else ("WAV", "FP32")
    request.inputs.add(name=name, datatype=datatype, shape=[samples.size])
    request.raw_input_contents.append(samples.tobytes())
    return request


def read_event(response: Any, address: str) -> tuple[StreamEvent | None, bool]:
    """What a response to START says, and whether it is the last one. Raises ServerFailure."""
    last = "triton_final_response" in response.parameters and response.parameters["triton_final_response"].bool_param
    if not response.outputs:
        return None, last
    outputs = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=False))
    try:
        (segment,), (start, heard) = _numbers("i", outputs["SEGMENT"]), _numbers("f", outputs["TIMES"])
        (stable,), (tail,) = _strings(outputs["STABLE"]), _strings(outputs["TAIL"])
        return StreamEvent(segment, stable, tail, outputs["FINAL"] != b"\0", start, heard), last
    except (KeyError, ValueError, struct.error) as error:
        raise ServerFailure(
            f"{address}: model {response.model_name} sent an event that cannot be read: {error!r}. Check `stream_model`."
        ) from None


def read_progress(response: Any, request_id: str) -> Progress:
    """How far a request is; with `known` 0 when the server knows no such request."""
    outputs = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=False))
    done, known = (*_numbers("f", outputs.get("PROGRESS", b"")), 0.0, 0.0)[:2]
    return Progress(request_id, done, known, "".join(_strings(outputs.get("TRANSCRIPTS", b""))[:1]))


def read_reply(response: Any, address: str, duration: float | None = None) -> Transcript:
    """Of audio of `duration` s: the outputs that are known here, without their padding. Raises ServerFailure."""
    outputs = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=False))
    missing = {"TRANSCRIPTS", "TOKENS"} - outputs.keys()
    if missing:
        raise ServerFailure(
            f"{address}: model {response.model_name} sent {sorted(outputs)} without {sorted(missing)}. "
            "Check `model`: it has to be an asrloop model."
        )
    try:
        tokens = _numbers("i", outputs["TOKENS"])
        if _TOKEN_PADDING in tokens:
            tokens = tokens[: tokens.index(_TOKEN_PADDING)]
        texts = _strings(outputs.get("SEGMENTS", b""))
        segments = texts[: texts.index("")] if "" in texts else texts
        segment_times = _numbers("f", outputs.get("SEGMENT_TIMES", b""))[: 2 * len(segments)]
        # A model without times sends none, or an empty tensor.
        times = _numbers("f", outputs.get("TOKEN_TIMES", b""))[: len(tokens)]
        words = words_of(_strings(outputs.get("TOKEN_PIECES", b""))[: len(tokens)], times)
        (text, *_), confidence = _strings(outputs["TRANSCRIPTS"]), _numbers("f", outputs.get("CONFIDENCE", b""))
        return Transcript(
            text=text,
            segments=segments_of(segments, segment_times, text, duration, words),
            words=words,
            duration=duration,
            confidence=confidence[0] if confidence else None,
            complete=outputs.get("COMPLETE", b"\1") != b"\0",
            tokens=tokens,
            token_times=times,
            endpoint=address,
        )
    except (struct.error, ValueError) as error:
        raise ServerFailure(
            f"{address}: model {response.model_name} sent outputs that cannot be read: {error}. Check `model`."
        ) from None


def _set(field: Any, name: str, value: Parameter) -> None:
    # bool before int: a bool is an int in Python.
    for kind, attribute in ((bool, "bool_param"), (int, "int64_param"), (float, "double_param"), (str, "string_param")):
        if isinstance(value, kind):
            return setattr(field, attribute, value)
    raise TypeError(f"parameter {name} is a {type(value).__name__}: give a str, bool, int or float")


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
