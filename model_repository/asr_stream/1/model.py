"""Live audio: execute() hands chunks to their streams and returns; events go out on the request that started the stream."""

from __future__ import annotations  # pb_utils lacks the classes while Triton completes the configuration

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from asrloop import config
from asrloop.audio import Samples, checked_rate
from asrloop.engine.metrics import MetricSpec, Publisher
from asrloop.errors import InvalidAudio, RequestError, error_of
from asrloop.live.metrics import LIVE_METRICS, LiveMetrics
from asrloop.live.stream import Decoded, Decoding, Event, Stream
from asrloop.live.streams import Streams
from asrloop.live.voice import Voice
from asrloop.speech.detector import open_detector

START, END = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
LOOP = "decoder_loop"
DECODE_SECONDS = 30.0
"""Longest wait for one decoding."""


class TritonPythonModel:
    """Holds the streams; one instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the detector, start the threads and the metrics."""
        self.settings = config.load()
        try:
            detector = open_detector(Path(args["model_repository"], args["model_version"]))
        except OSError as error:
            raise pb_utils.TritonModelException(str(error)) from error
        live = self.settings.live
        self.metrics = LiveMetrics(lambda: len(self.streams))
        self.streams = Streams(
            lambda: Stream(Voice(detector), *live.segment, live.interval_seconds), decode, live, self.metrics
        )
        self.publisher = Publisher(self.metrics, metric_family, LIVE_METRICS)

    def execute(self, requests: Sequence[pb_utils.InferenceRequest]) -> None:
        """Take each request on, or refuse it."""
        for request in requests:
            reply = Reply(request.get_response_sender())
            try:
                is_start = self.take_on(request, reply)
            except RequestError as error:
                reply.end(error)
            else:
                if not is_start:
                    reply.end(None)

    def take_on(self, request: pb_utils.InferenceRequest, reply: Reply) -> bool:
        """Whether it starts a stream, of which ``reply`` then tells the events. Raises RequestError."""
        key, flags = request.correlation_id(), request.flags()
        parameters = json.loads(request.parameters() or "{}")
        samples = samples_of(request)
        is_start = bool(flags & START)
        if is_start:
            self.streams.start(key, reply, checked_rate(parameters.get("sample_rate", 16_000)))
        self.streams.hear(key, samples)
        if flags & END:
            self.streams.end(key)
        return is_start

    def finalize(self) -> None:
        """Answer what is left and end the threads."""
        self.streams.close()
        self.publisher.close()


class Reply:
    """The responses to one request."""

    def __init__(self, sender: pb_utils.ResponseSender) -> None:
        self.sender: pb_utils.ResponseSender | None = sender
        # Triton frees what is_cancelled() reads once the last response is sent.
        self.lock = threading.Lock()

    def has_left(self) -> bool:
        """Whether the caller went away."""
        with self.lock:
            return self.sender is not None and self.sender.is_cancelled()

    def tell(self, event: Event) -> None:
        """Send an event."""
        # A list of our own, until all is sent: see decoder_loop.
        tensors = [
            pb_utils.Tensor("SEGMENT", np.array([event.segment], np.int32)),
            pb_utils.Tensor("STABLE", np.array([event.stable.encode()], np.object_)),
            pb_utils.Tensor("TAIL", np.array([event.tail.encode()], np.object_)),
            pb_utils.Tensor("FINAL", np.array([event.final], np.bool_)),
            pb_utils.Tensor("TIMES", np.array([event.start, event.heard], np.float32)),
        ]
        with self.lock:
            if self.sender is not None:
                self.sender.send(pb_utils.InferenceResponse(tensors))

    def end(self, error: RequestError | None) -> None:
        """The last response: empty, or the error with Triton's code for it."""
        with self.lock:
            sender, self.sender = self.sender, None
            if sender is None:
                return
            if error is None:
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            else:
                code = getattr(pb_utils.TritonError, error.triton_code)
                response = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
                sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def samples_of(request: pb_utils.InferenceRequest) -> Samples:
    """The samples of a request, f32 [N], -1..1; copied, for inputs die when execute() returns. Raises InvalidAudio."""
    parts = []
    for tensor in request.inputs():
        values = tensor.as_numpy().reshape(-1)
        parts.append(values.astype(np.float32) / 32768 if tensor.name() == "PCM" else values.astype(np.float32))
    samples: Samples = np.concatenate([*parts, np.zeros(0, np.float32)])
    if not np.isfinite(samples).all():
        at = int(np.argmin(np.isfinite(samples)))
        raise InvalidAudio(f"WAV holds {samples[at]} at sample {at} of the chunk: all samples must be finite numbers")
    return samples


def decode(wanted: Decoding) -> Decoded:
    """By a call of the loop through Triton. Raises RequestError."""
    tensors = {
        "SAMPLES": wanted.samples[None],
        "DRAFT": np.array([wanted.draft], np.int32).reshape(1, -1),
        "FORCED": np.array([[wanted.forced]], np.int32),
    }
    if wanted.prefix:
        tensors["PREFIX"] = np.array([wanted.prefix], np.int32)
        tensors["PREFIX_SAMPLES"] = np.array([[wanted.prefix_samples]], np.int32)
    if not wanted.draft:
        del tensors["DRAFT"], tensors["FORCED"]
    call = pb_utils.InferenceRequest(
        model_name=LOOP,
        requested_output_names=["TRANSCRIPTS", "TOKENS", "COMPLETE", "CONFIDENCE", "WORD_PROBABILITIES"],
        inputs=[pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in tensors.items()],
        timeout=round(DECODE_SECONDS * 1e6),
    )
    response = call.exec()
    if response.has_error():
        raise error_of(response.error().message())
    found = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
    tokens = [int(token) for token in found["TOKENS"].reshape(-1) if token >= 0]
    text: bytes = found["TRANSCRIPTS"].reshape(-1)[0]
    return Decoded(
        text.decode(),
        tokens,
        complete=bool(found["COMPLETE"].reshape(-1)[0]),
        confidence=float(found["CONFIDENCE"].reshape(-1)[0]),
        probabilities=found["WORD_PROBABILITIES"].reshape(-1).tolist(),
    )


def metric_family(spec: MetricSpec) -> pb_utils.MetricFamily:
    """A family of metrics on Triton's /metrics."""
    kind = getattr(pb_utils.MetricFamily, spec.kind.upper())
    return pb_utils.MetricFamily(name=spec.name, description=spec.description, kind=kind)
