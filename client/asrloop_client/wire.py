"""Requests and replies of ModelInfer: see the KServe v2 protocol and Triton's `grpc_service.proto`.

Requests are made as serialised bytes with one copy of the audio: through the message class it would be copied three times,
which would be most of the client's time.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor

from asrloop_client.audio import EncodedFile, Pcm
from asrloop_client.errors import InvalidAudio, ServerFailure
from asrloop_client.settings import Parameter
from asrloop_client.transcript import Segment, Transcript, Word

_KINDS = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
"""Fields of a request parameter. bool before int: a bool is an int in Python."""
_PADDING = -1  # of tokens; strings are padded with ""
_LENGTH_DELIMITED = 2
_RAW_INPUT_TAG = bytes([service_pb2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED])


class Request:
    """The ModelInferRequest of one transcription; only the server's timeout and the cancel key differ from attempt to attempt."""

    def __init__(
        self, audio: Pcm | EncodedFile, model: str, parameters: Mapping[str, Parameter], request_id: str
    ) -> None:
        """Take WAV FP32 [1, N] from samples, which are contiguous, or AUDIO STRING [1, 1] from a file. Raises InvalidAudio."""
        self.request_id, self._audio = request_id, audio
        self.cancel_key = ""
        """Key of the latest attempt, known to the server only: anybody with it can end the attempt. A server refuses the key of
        an ended attempt for a while, so each attempt has its own."""
        rate = {"sample_rate": audio.sample_rate} if isinstance(audio, Pcm) else {}
        self._head = new_request(model, request_id, {**rate, **parameters})
        self._raw: tuple[bytes | memoryview, ...]
        if isinstance(audio, EncodedFile):
            self._head.inputs.add(name="AUDIO", datatype="BYTES", shape=[1, 1])
            self._raw = (struct.pack("<I", len(audio.content)), audio.content)
        else:
            self._head.inputs.add(name="WAV", datatype="FP32", shape=[1, audio.samples.size])
            self._raw = (audio.samples.data.cast("B"),)
        self.size = sum(map(len, self._raw))
        """Bytes of audio."""

    @property
    def duration(self) -> float | None:
        """Seconds of audio as far as the client knows."""
        return self._audio.duration

    def forget(self, parameter: str) -> bool:
        """Leave a parameter out from now on; False when it was not there."""
        was_there: bool = parameter in self._head.parameters
        if was_there:
            del self._head.parameters[parameter]
        return was_there

    def serialised(self, timeout: float) -> bytes:
        """Return the message of an attempt that the server may work on for `timeout` s.

        Fields may come in any order, so a message may be continued by appending further fields ("Message Structure" in the
        protobuf encoding specification).
        """
        self.cancel_key = uuid.uuid4().hex
        self._head.parameters["cancel_key"].string_param = self.cancel_key
        self._head.parameters["timeout"].int64_param = max(1, int(timeout * 1e6))
        return b"".join((self._head.SerializeToString(), _RAW_INPUT_TAG, _varint(self.size), *self._raw))


def new_request(model: str, request_id: str, parameters: Mapping[str, Parameter]) -> Any:
    """Return a ModelInferRequest without inputs. Raises InvalidAudio for values that no field can hold."""
    try:
        message = service_pb2.ModelInferRequest(model_name=model, id=request_id)
        for name, value in parameters.items():
            field = next((field for kind, field in _KINDS.items() if isinstance(value, kind)), None)
            if field is None:
                raise TypeError(f"parameter {name} is a {type(value).__name__}: give a str, bool, int or float")
            setattr(message.parameters[name], field, value)
    except (TypeError, ValueError) as error:
        # ValueError: an integer of more than 64 bits, or text that is no UTF-8.
        raise InvalidAudio(f"model {model!r}, request_id {request_id!r}, parameters {parameters}: {error}") from None
    return message


def read_reply(response: Any, address: str, length: Callable[[], float | None] = lambda: None) -> Transcript:
    """Return the transcript; unknown outputs are ignored. `length` gives the seconds of audio where the server does not.

    Raises ServerFailure.
    """
    outputs = outputs_of(response)
    missing = {"TRANSCRIPTS", "TOKENS"} - outputs.keys()
    if missing:
        raise ServerFailure(
            f"{address}: model {response.model_name} sent {sorted(outputs)} without {sorted(missing)}. "
            "Check `model`: it has to be an asrloop model."
        )
    try:
        (text, *_), tokens = strings(outputs["TRANSCRIPTS"]), numbers("i", outputs["TOKENS"])
        tokens = tokens[: tokens.index(_PADDING)] if _PADDING in tokens else tokens
        decoded = numbers("f", outputs.get("DURATION", b""))
        duration = round(decoded[0], 6) if decoded else length()
        words = words_of(outputs)
        segments = _timed(Segment, outputs, "SEGMENTS", "SEGMENT_TIMES", _speakers(outputs, "SEGMENT_SPEAKERS"))
        if text and not segments:
            end = duration if duration is not None else words[-1].end if words else 0.0
            segments = (Segment(text, 0.0, end),)
        confidence = numbers("f", outputs.get("CONFIDENCE", b""))
        return Transcript(
            text=text,
            segments=segments,
            words=words,
            duration=duration,
            language=next(filter(None, strings(outputs.get("LANGUAGE", b""))), None),
            confidence=confidence[0] if confidence else None,
            complete=outputs.get("COMPLETE", b"\1") != b"\0",
            tokens=tokens,
            token_times=numbers("f", outputs.get("TOKEN_TIMES", b""))[: len(tokens)],
            token_pieces=strings(outputs.get("TOKEN_PIECES", b""))[: len(tokens)],
            token_log_probs=numbers("f", outputs.get("TOKEN_LOG_PROBS", b""))[: len(tokens)],
            endpoint=address,
        )
    except (struct.error, ValueError) as error:
        raise ServerFailure(
            f"{address}: model {response.model_name} sent outputs that cannot be read: {error}. Check `model`."
        ) from None


def outputs_of(response: Any) -> dict[str, bytes]:
    """Return the raw tensors of a ModelInferResponse by name."""
    return dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=False))


def numbers(kind: str, raw: bytes) -> tuple[Any, ...]:
    """Return the elements of a little-endian tensor of 4-byte numbers; for so few struct is faster than numpy."""
    return struct.unpack(f"<{len(raw) // 4}{kind}", raw)


def strings(raw: bytes) -> tuple[str, ...]:
    """Return the elements of a string tensor."""
    return tuple(each.decode("utf-8") for each in deserialize_bytes_tensor(raw))


def words_of(outputs: Mapping[str, bytes]) -> tuple[Word, ...]:
    """Return the words of raw tensors; none when their texts or times are absent or empty. Raises ValueError, struct.error."""
    confidences = numbers("f", outputs.get("WORD_CONFIDENCES", b""))
    return _timed(Word, outputs, "WORDS", "WORD_TIMES", confidences, _speakers(outputs, "WORD_SPEAKERS"))


def _speakers(outputs: Mapping[str, bytes], name: str) -> tuple[int | None, ...]:
    return tuple(None if number < 0 else number for number in numbers("i", outputs.get(name, b"")))


def _timed(
    kind: Callable[..., Any], outputs: Mapping[str, bytes], names: str, times: str, *more: Sequence[object]
) -> tuple[Any, ...]:
    """Return words or segments from STRING [N] and FP32 [N, 2], start and end in seconds; none when one is absent or empty.

    `more` has further values, one each; None takes the place of values that are too few.
    """
    texts, bounds = strings(outputs.get(names, b"")), numbers("f", outputs.get(times, b""))
    texts = texts[: texts.index("")] if "" in texts else texts
    whole = [values if len(values) >= len(texts) else (None,) * len(texts) for values in more]
    return tuple(map(kind, texts, bounds[::2], bounds[1::2], *whole)) if len(bounds) >= 2 * len(texts) else ()


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)
