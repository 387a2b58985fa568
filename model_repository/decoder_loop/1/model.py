"""The decode loop as a Triton model: execute() submits and returns; the engine's reply thread answers each request once, late."""

from __future__ import annotations  # pb_utils lacks the classes while Triton completes the configuration

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from asrloop import config
from asrloop.engine.engine import Engine
from asrloop.engine.inputs import cancel_key_of, deadline_of, hint_of, rows_of
from asrloop.engine.metrics import EngineMetrics, MetricSpec, Publisher
from asrloop.engine.outputs import CANCELLED, progress_tensors
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.errors import RequestError
from asrloop.families.registry import cutting, encoders, family_in, open_family
from asrloop.onnx_files.sessions import Graph, Tensors
from asrloop.speech.detector import open_detector
from asrloop.speech.gate import speech_gate
from asrloop.tritonserver.supervisor import restarts_so_far


class TritonPythonModel:
    """Holds the engine; one instance, one engine."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the models, start the engine and the metrics."""
        self.settings = config.load()
        if not args["model_instance_name"].endswith("_0"):
            raise pb_utils.TritonModelException("instance_group count must be 1: one engine holds all slots")
        directory = Path(args["model_repository"], args["model_version"])
        mode = json.loads(args["model_config"])["parameters"]["execution_mode"]["string_value"]
        try:
            if mode not in ("in_process", "bls"):
                raise ValueError(f"execution_mode is {mode!r}: it must be in_process or bls")
            graphs = {name: bls_graph(name) for name in ("encoder", "decoder")} if mode == "bls" else None
            self.family = open_family(directory, self.settings, graphs)
            detector = open_detector(directory)
        except (OSError, ValueError, RuntimeError) as error:
            raise pb_utils.TritonModelException(str(error)) from error
        engine = self.settings.engine
        scheduler = Scheduler(engine.slots, engine.inbox, engine.queue_timeout_seconds, encoders(self.settings))
        self.metrics = EngineMetrics(lambda: len(scheduler.running), restarts_so_far())
        self.publisher = Publisher(self.metrics, metric_family)
        self.engine = Engine(
            self.family,
            scheduler,
            self.metrics,
            on_bug=lambda: os._exit(70),  # so that the supervisor notices and starts the server anew
            has_speech=speech_gate(detector, self.settings),
            cutting=cutting(detector, family_in(directory), self.settings),
        )

    def execute(self, requests: Sequence[pb_utils.InferenceRequest]) -> None:
        """Submit each request; its rows are copied, for inputs die when this returns."""
        for request in requests:
            reply = Reply(request.get_response_sender())
            try:
                self.submit(request, reply)
            except RequestError as error:
                self.metrics.refused(error)
                reply.send(error)

    def submit(self, request: pb_utils.InferenceRequest, reply: Reply) -> None:
        """Hand the rows to the engine; or end the requests with the key that ``cancel`` names, or say how far that is which
        ``progress`` names. Raises RequestError.

        Triton does not pass a caller's cancellation on to an ensemble's step that runs already, and a step answers once; hence
        the parameters.
        """
        parameters = json.loads(request.parameters() or "{}")
        if "cancel" in parameters:
            ended = self.engine.cancel(parameters["cancel"])
            return reply.send({CANCELLED.name: np.array([[ended]], CANCELLED.dtype)})
        if "progress" in parameters:
            return reply.send(progress_tensors(*self.engine.progress(parameters["progress"])))
        tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        rows, rate = rows_of(tensors, parameters, self.settings.audio)
        hint = hint_of(tensors, rows, self.family)
        return self.engine.submit(
            Request(
                rows,
                lambda done: reply.send(done.result(self.family)),
                sample_rate=rate,
                deadline=deadline_of(tensors, request.timeout(), self.engine.clock()),
                # Asking costs, and in a step of an ensemble the answer is always no: ensembles never ask for this output.
                is_cancelled=reply.is_cancelled if CANCELLED.name in request.requested_output_names() else None,
                key=cancel_key_of(parameters),
                drafts=[hint.draft] * len(rows),
                given=hint.given,
                said_before=hint.said_before,
            )
        )

    def finalize(self) -> None:
        """Answer what is left and end the threads."""
        self.engine.close()
        self.publisher.close()


class Reply:
    """The one response to a request of Triton's."""

    def __init__(self, sender: pb_utils.ResponseSender) -> None:
        self.sender: pb_utils.ResponseSender | None = sender
        # Triton frees what is_cancelled() reads once the response is sent; asking at that moment would take the server down.
        self.lock = threading.Lock()

    def is_cancelled(self) -> bool:
        """Whether the caller of this very model went away."""
        with self.lock:
            return self.sender is not None and self.sender.is_cancelled()

    def send(self, result: RequestError | Tensors) -> None:
        """Send all outputs, or the error with Triton's code for it."""
        tensors = []
        if isinstance(result, RequestError):
            code = getattr(pb_utils.TritonError, result.triton_code)
            response = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(result), code))
        else:
            # A list of our own, until all is sent: those that nobody asked for send() lets go of without Python's lock, and the
            # last to let go of a tensor frees Python's objects.
            tensors = [pb_utils.Tensor(*output) for output in result.items()]
            response = pb_utils.InferenceResponse(tensors)
        with self.lock:
            # Let go of here, because its destructor needs a server that is still there.
            sender, self.sender = self.sender, None
            if sender is not None:
                sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def bls_graph(model: str) -> Graph:
    """An ONNX model that is run by a call through Triton, to which, too, no names of outputs mean all."""

    def run(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in inputs.items()]
        call = pb_utils.InferenceRequest(model_name=model, requested_output_names=list(outputs), inputs=tensors)
        response = call.exec()
        if response.has_error():
            raise RuntimeError(f"{model}: {response.error().message()}")
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}

    return run


def metric_family(spec: MetricSpec) -> pb_utils.MetricFamily:
    """A family of metrics on Triton's /metrics."""
    kind = getattr(pb_utils.MetricFamily, spec.kind.upper())
    return pb_utils.MetricFamily(name=spec.name, description=spec.description, kind=kind)
