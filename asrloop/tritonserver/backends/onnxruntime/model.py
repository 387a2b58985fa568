"""Python-based Triton backend that serves ``backend: "onnxruntime"`` models where the server has no native one.

It runs ``model.onnx`` on the CPU. Model parameter: ``intra_op_thread_count``, as the native backend calls it (default 1).
"""

from __future__ import annotations  # pb_utils lacks the classes while Triton completes the configuration

import json
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One ONNX Runtime session; each request is one run."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model.onnx of the version."""
        parameters = json.loads(args["model_config"])["parameters"]
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path} is missing: make it with `make models`")
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", {}).get("string_value", "1"))
        options.inter_op_num_threads = 1
        # Spinning threads starve the decode loop that shares these cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def execute(self, requests: Sequence[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Run each request by itself; a failure affects only its request."""
        return [self.run(request) for request in requests]

    def run(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        """Return the response to one request."""
        names = list(request.requested_output_names())
        try:
            outputs = self.session.run(names, {tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
        except Exception as error:  # any error of ORT for these tensors fails this request only
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, value) for name, value in zip(names, outputs, strict=True)]
        )
