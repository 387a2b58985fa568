"""Decodes audio files to clean 16 kHz samples, or answers with an error. Runs in a process of its own: an untrusted file may
crash a parser, and the engine must survive that."""

from __future__ import annotations  # pb_utils lacks the classes while Triton completes the configuration

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from asrloop import config
from asrloop.audio.decoding import FileDecoder, FileHead
from asrloop.audio.quiet import silence_libraries
from asrloop.engine.options import CHANNELS, parsed
from asrloop.errors import RequestError
from asrloop.tritonmodel.calls import parameters_of, tensors_of
from asrloop.tritonmodel.reply import Reply

LONGEST_WAIT = 3600.0
"""Seconds. The loop reads nothing of a long file while that waits for its turn, and hangs up when the request ends."""

SWITCH_SECONDS = 0.0005
"""A decoder asks for the interpreter at every read, and waits so long for each time that a walk through another file has it."""


NO_HEAD = FileHead(np.zeros(0, np.float32))


class TritonPythonModel:
    """Takes requests at once and answers them later, from the decoder's threads."""

    def initialize(self, args: dict[str, str]) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        silence_libraries()
        self.decoder = FileDecoder(
            config.load().audio,
            # An answer that cannot be sent ends the process, so that the supervisor notices and starts the server anew.
            on_bug=lambda: os._exit(70),
            stall_seconds=LONGEST_WAIT,
        )

    def execute(self, requests: Sequence[pb_utils.InferenceRequest]) -> None:
        """Submit each request with copies of its files: inputs are freed when this returns."""
        for request in requests:
            reply = Reply(pb_utils, request)
            try:
                self.submit(request, reply)
            except RequestError as error:
                reply.end(error)

    def submit(self, request: pb_utils.InferenceRequest, reply: Reply) -> None:
        """Hand the files of a request to the decoder. Raises RequestError."""
        # Refuses unknown parameters before any work; the loop knows what its model can honour.
        options = parsed(parameters_of(request))
        (files,) = (tensor.reshape(-1).tolist() for tensor in tensors_of(request).values())
        name = request.request_id()
        timeout = request.timeout()  # microseconds; 0 when the caller set none
        deadline = self.decoder.clock() + timeout / 1e6 if timeout else None

        def answer(result: list[Sequence[FileHead]] | RequestError) -> None:
            reply.end(result if isinstance(result, RequestError) else tensors(result, deadline))

        def warn(text: str) -> None:
            pb_utils.Logger.log_warn(f"request {name!r:.80}: {text}; its COMPLETE is false")

        self.decoder.submit(files, deadline, answer, warn, by_channel=options.diarize == CHANNELS)

    def finalize(self) -> None:
        self.decoder.close()


def tensors(result: Sequence[Sequence[FileHead]], deadline: float | None) -> dict[str, NDArray[Any]]:
    """Return SAMPLES f32 [B, N], zero-padded, SAMPLE_LENS i32 [B, C] and DEADLINE i64 [B, 1].

    C is 1, or the number of channels that are decoded apart: then SAMPLES has one behind the other, and 0 is the length of those
    that only other rows have. Of a long file SAMPLES has the beginning; REST string [B, C] names the relay of the rest,
    REST_SECONDS f32 [B, C] is the length of all of it in seconds. MISSING_SECONDS f32 [B, C] is what a short file's header claims
    beyond what is there.
    """
    joined = [
        np.concatenate([head.samples for head in heads]) if len(heads) > 1 else heads[0].samples for heads in result
    ]
    samples = np.zeros((len(result), max(row.size for row in joined)), np.float32)
    for target, row in zip(samples, joined, strict=True):
        target[: row.size] = row
    most = max(map(len, result))
    rows = [[*heads, *[NO_HEAD] * (most - len(heads))] for heads in result]
    return {
        "SAMPLES": samples,
        "SAMPLE_LENS": np.array([[head.samples.size for head in row] for row in rows], np.int32),
        "DEADLINE": np.full((len(result), 1), -1 if deadline is None else round(deadline * 1e6), np.int64),
        "REST": np.array([[head.rest.encode() for head in row] for row in rows], np.object_),
        "REST_SECONDS": np.array([[head.seconds for head in row] for row in rows], np.float32),
        "MISSING_SECONDS": np.array([[head.missing for head in row] for row in rows], np.float32),
    }
