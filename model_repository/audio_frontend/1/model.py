"""Audio files in: each becomes clean 16 kHz samples, or its request gets INVALID_ARG. In a process of its own: what strangers
send may crash a parser, and must not take the engine along."""

from __future__ import annotations  # pb_utils lacks the classes while Triton completes the configuration

from collections.abc import Sequence

import numpy as np
import triton_python_backend_utils as pb_utils

from asrloop import audio, config
from asrloop.engine.errors import InvalidAudio


class TritonPythonModel:
    """Parses, checks and resamples; each request on its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the limits."""
        self.max_seconds = config.load().audio.max_seconds

    def execute(self, requests: Sequence[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        """Answer each request with SAMPLES f32 [B, N], zero-padded, and SAMPLE_LENS i32 [B, 1]."""
        return [self.answer(request) for request in requests]

    def answer(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        """The response to one request."""
        (files,) = (tensor.as_numpy().reshape(-1) for tensor in request.inputs())
        try:
            rows = [audio.from_file(content, self.max_seconds) for content in files]
        except InvalidAudio as error:
            code = getattr(pb_utils.TritonError, error.triton_code)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
        lengths = np.array([[row.size] for row in rows], np.int32)
        samples = np.zeros((len(rows), lengths.max()), np.float32)
        for target, row in zip(samples, rows, strict=True):
            target[: row.size] = row
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("SAMPLES", samples), pb_utils.Tensor("SAMPLE_LENS", lengths)]
        )
