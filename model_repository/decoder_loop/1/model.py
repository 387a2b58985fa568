"""The decode loop as a Triton model: execute() submits and returns; the engine answers each request once, late."""

from __future__ import annotations  # pb_utils lacks the classes while Triton completes the configuration

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from asrloop import config
from asrloop.assembly import engine_for
from asrloop.engine.inputs import deadline_of, named_key, request_of
from asrloop.engine.metrics import EngineMetrics, Publisher
from asrloop.engine.outputs import CANCELLED, progress_tensors
from asrloop.errors import RequestError
from asrloop.recognizer import name_of
from asrloop.tritonmodel.calls import bls_graphs, parameters_of, tensors_of
from asrloop.tritonmodel.metrics import metric_families
from asrloop.tritonmodel.reply import Reply
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
            name = name_of(args["model_name"])
            if mode == "bls" and name:
                raise ValueError("execution_mode is bls: only the default has it; set in_process")
            self.metrics = EngineMetrics(lambda: len(self.engine.scheduler.running), 0 if name else restarts_so_far())
            self.engine = engine_for(
                directory,
                self.settings,
                graphs=bls_graphs(pb_utils) if mode == "bls" else None,
                observer=self.metrics,
                on_bug=lambda: os._exit(70),  # so that the supervisor notices and starts the server anew
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise pb_utils.TritonModelException(str(error)) from error
        labels = {"recognizer": name} if name else {}
        self.publisher = Publisher(self.metrics, metric_families(pb_utils, labels))

    def execute(self, requests: Sequence[pb_utils.InferenceRequest]) -> None:
        """Submit each request; its rows are copied, for inputs die when this returns."""
        for request in requests:
            reply = Reply(pb_utils, request)
            try:
                self.submit(request, reply)
            except RequestError as error:
                self.metrics.refused(error)
                reply.end(error)

    def submit(self, request: pb_utils.InferenceRequest, reply: Reply) -> None:
        """Hand the rows to the engine; or end the requests with the key that ``cancel`` names, or tell how far the one is that
        ``progress`` names. Raises RequestError.

        Triton does not pass a caller's cancellation on to an ensemble's step that runs already, and a step answers once; hence
        the parameters.
        """
        engine, parameters = self.engine, parameters_of(request)
        if "cancel" in parameters:
            return reply.end(
                {CANCELLED.name: np.array([[engine.cancel(named_key(parameters, "cancel"))]], CANCELLED.dtype)}
            )
        if "progress" in parameters:
            return reply.end(progress_tensors(*engine.progress(named_key(parameters, "progress"))))
        tensors, outputs = tensors_of(request), request.requested_output_names()
        return engine.submit(
            request_of(
                tensors,
                parameters,
                engine.family,
                self.settings.audio,
                on_done=lambda done: reply.end(done.result(engine.family)),
                deadline=deadline_of(tensors, request.timeout(), engine.clock()),
                # Asking costs, and in a step of an ensemble the answer is always no: ensembles never ask for this output.
                is_cancelled=reply.is_cancelled if CANCELLED.name in outputs else None,
                outputs=frozenset(outputs),
            )
        )

    def finalize(self) -> None:
        """Answer what is left and end the threads."""
        self.engine.close()
        self.publisher.close()
