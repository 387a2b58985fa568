"""Live audio through Triton: chunks to samples, decodings to calls of the loop, events to tensors."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import Samples
from asrloop.audio.pcm import check_finite, from_int16
from asrloop.engine.options import Options, parameters_of
from asrloop.errors import InvalidAudio, Overloaded, RequestError, error_of
from asrloop.live.calls import Loops
from asrloop.live.decodings import Decoding, Hypothesis
from asrloop.live.events import Event
from asrloop.recognizer import recognizer
from asrloop.tritonmodel.calls import CallFailed, NotLoaded, called
from asrloop.tritonmodel.reply import Reply

DECODE_SECONDS = 30.0
"""Longest wait for one decoding."""

_OUTPUTS = ("TOKENS", "COMPLETE", "CONFIDENCE", "WORD_TEXTS", "WORD_PROBABILITIES")
_NOBODY = {"WAV": np.zeros((1, 1), np.float32)}
"""Input of a request that orders something: Triton takes none without."""
_OF_TIMES = ("WORD_TIMES", "WORD_CONFIDENCES")


def samples_of(tensors: Mapping[str, NDArray[Any]]) -> Samples:
    """Return a copy of a chunk's samples, f32 [N], -1..1: WAV f32 or PCM int16, or none. Raises InvalidAudio."""
    if len(tensors) > 1:
        raise InvalidAudio(f"inputs are {', '.join(sorted(tensors))}: send WAV or PCM, not both")
    samples: Samples = np.zeros(0, np.float32)
    for name, tensor in tensors.items():
        values = tensor.reshape(-1)
        samples = from_int16(values) if name == "PCM" else values.copy()
    check_finite(samples, "WAV")
    return samples


class ReplyListener:
    """Sends the events of a stream as responses to the request that started it."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.has_left = reply.is_cancelled

    def tell(self, event: Event) -> None:
        """Send an event."""
        outputs: dict[str, NDArray[Any]] = {
            "SEGMENT": np.array([event.segment], np.int32),
            "STABLE": np.array([event.stable.encode()], np.object_),
            "TAIL": np.array([event.tail.encode()], np.object_),
            "FINAL": np.array([event.final], np.bool_),
            "TIMES": np.array([event.start, event.heard], np.float32),
            "PAUSE": np.array([event.pause], np.bool_),
            "TURN": np.array([event.turn], np.float32),
        }
        if event.words:
            outputs |= {
                "WORDS": np.array([word.text.encode() for word in event.words], np.object_),
                "WORD_TIMES": np.array([(word.start, word.end) for word in event.words], np.float32),
                "WORD_CONFIDENCES": np.array([word.confidence for word in event.words], np.float32),
            }
        self._reply.tell(outputs)

    def end(self, error: RequestError | None) -> None:
        """Send the last response."""
        self._reply.end(error)


def loops_by(pb_utils: Any) -> Loops:
    """Return the loops that decode live audio."""

    def decode(decoding: Decoding, options: Options, key: str) -> Hypothesis:
        inputs: dict[str, NDArray[Any]] = {
            "SAMPLES": decoding.samples[None],
            "FORCED": np.array([[decoding.forced]], np.int32),
        }
        if decoding.draft:
            inputs["DRAFT"] = np.array([decoding.draft], np.int32)
        if decoding.prefix:
            inputs["PREFIX"] = np.array([decoding.prefix], np.int32)
            inputs["PREFIX_SAMPLES"] = np.array([[decoding.prefix_samples]], np.int32)
        loop = recognizer(options.recognizer).loop
        outputs = [*_OUTPUTS, *(_OF_TIMES if options.word_times else ()), *(() if options.language else ("LANGUAGE",))]
        parameters = {**parameters_of(options), "cancel_key": key}
        try:
            found = called(pb_utils, loop, inputs, outputs, parameters=parameters, seconds=DECODE_SECONDS)
        except NotLoaded:
            raise not_loaded(options.recognizer) from None
        except CallFailed as error:
            raise error_of(str(error)) from None
        return Hypothesis(
            [text.decode() for text in found["WORD_TEXTS"].reshape(-1)],
            [int(token) for token in found["TOKENS"].reshape(-1) if token >= 0],
            complete=bool(found["COMPLETE"].reshape(-1)[0]),
            confidence=float(found["CONFIDENCE"].reshape(-1)[0]),
            probabilities=found["WORD_PROBABILITIES"].reshape(-1).tolist(),
            times=found["WORD_TIMES"].reshape(-1, 2).tolist() if options.word_times else (),
            confidences=found["WORD_CONFIDENCES"].reshape(-1).tolist() if options.word_times else (),
            language="" if options.language else found["LANGUAGE"].reshape(-1)[0].decode(),
        )

    def cancel(options: Options, key: str) -> None:
        loop = recognizer(options.recognizer).loop
        try:
            called(pb_utils, loop, _NOBODY, ["CANCELLED"], parameters={"cancel": key}, seconds=DECODE_SECONDS)
        except CallFailed as error:
            raise error_of(str(error)) from None

    return Loops(decode, cancel, partial(check_loaded, pb_utils))


def check_loaded(pb_utils: Any, options: Options) -> None:
    """Ask the loop that decodes a stream for what costs it nothing. Blocks. Raises Overloaded where it is not loaded."""
    try:
        loop = recognizer(options.recognizer).loop
        called(pb_utils, loop, _NOBODY, ["CANCELLED"], parameters={"cancel": ""}, seconds=DECODE_SECONDS)
    except NotLoaded:
        raise not_loaded(options.recognizer) from None
    except CallFailed:  # it is there; what is wrong with it a decoding tells
        return


def not_loaded(name: str) -> Overloaded:
    """Make the error for a recognizer without its loop. Another server may have it."""
    loop = recognizer(name).loop
    return Overloaded(
        f"model is {name or 'the default'}: {loop} is not loaded; load it by Triton's model control (POST "
        f"/v2/repository/models/{loop}/load), or start the server again"
        + ("; or leave model out for the default" if name else "")
    )
