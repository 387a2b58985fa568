"""Decodes audio files to clean 16 kHz samples, or answers with an error. Runs in a process of its own: an untrusted file may
crash a parser, and the engine must survive that."""

from __future__ import annotations  # pb_utils lacks the classes while Triton completes the configuration

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from asrloop import config
from asrloop.audio.decoding import FileDecoder, FileHead
from asrloop.audio.relay import STALL_SECONDS
from asrloop.errors import RequestError


class TritonPythonModel:
    """Takes requests at once and answers them later, from the decoder's threads."""

    def initialize(self, args: dict[str, str]) -> None:
        settings = config.load()
        self.decoder = FileDecoder(
            settings.audio,
            # An answer that cannot be sent ends the process, so that the supervisor notices and starts the server anew.
            on_bug=lambda: os._exit(70),
            # The loop reads nothing of a long file while it waits for its turn.
            stall_seconds=settings.engine.queue_timeout_seconds + STALL_SECONDS,
        )

    def execute(self, requests: Sequence[pb_utils.InferenceRequest]) -> None:
        """Submit each request with copies of its files: inputs are freed when this returns."""
        for request in requests:
            timeout = request.timeout()  # microseconds; 0 when the caller set none
            reply = Reply(request.get_response_sender(), self.decoder.clock() + timeout / 1e6 if timeout else None)
            (files,) = (tensor.as_numpy().reshape(-1).tolist() for tensor in request.inputs())
            try:
                self.decoder.submit(files, reply.deadline, reply.send)
            except RequestError as error:
                reply.send(error)

    def finalize(self) -> None:
        self.decoder.close()


class Reply:
    """The one response to a request: SAMPLES f32 [B, N], zero-padded, SAMPLE_LENS i32 [B, 1] and DEADLINE i64 [B, 1].

    SAMPLES has the beginning of a long file, REST string [B, 1] the handle of the outlet that sends the rest,
    REST_SECONDS f32 [B, 1] the length of the whole file.
    """

    def __init__(self, sender: pb_utils.ResponseSender, deadline: float | None) -> None:
        self.sender = sender
        self.deadline = deadline

    def send(self, result: list[FileHead] | RequestError) -> None:
        """Send the tensors, or the error with Triton's code for it."""
        if isinstance(result, RequestError):
            code = getattr(pb_utils.TritonError, result.triton_code)
            response = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(result), code))
        else:
            lengths = np.array([[row.samples.size] for row in result], np.int32)
            samples = np.zeros((len(result), lengths.max()), np.float32)
            for target, row in zip(samples, result, strict=True):
                target[: row.samples.size] = row.samples
            deadline = np.full((len(result), 1), -1 if self.deadline is None else round(self.deadline * 1e6), np.int64)
            tensors: dict[str, NDArray[Any]] = {
                "SAMPLES": samples,
                "SAMPLE_LENS": lengths,
                "DEADLINE": deadline,
                "REST": np.array([[row.rest.encode()] for row in result], np.object_),
                "REST_SECONDS": np.array([[row.seconds] for row in result], np.float32),
            }
            # Our own list keeps the tensors alive until all is sent: see decoder_loop.
            kept = [pb_utils.Tensor(*tensor) for tensor in tensors.items()]
            response = pb_utils.InferenceResponse(kept)
        self.sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        del self.sender  # its destructor needs a running server
