"""Audio in: every row of a request becomes clean 16 kHz samples, or the request gets INVALID_ARG. No model runs here."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils

from asrloop import audio, config


class TritonPythonModel:
    """Checks, decodes and resamples; each request on its own."""

    def initialize(self, args):
        """Read the limits."""
        self.max_seconds = config.load().audio.max_seconds

    def execute(self, requests):
        """Answer each request with SAMPLES f32 [B, N], zero-padded, and SAMPLE_LENS i32 [B, 1]."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            rows = self._rows(request)
        except audio.AudioError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        lengths = np.array([[row.size] for row in rows], np.int32)
        if len(rows) == 1:
            samples = rows[0][None]
        else:
            samples = np.zeros((len(rows), lengths.max()), np.float32)
            for target, row in zip(samples, rows, strict=True):
                target[: row.size] = row
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("SAMPLES", samples), pb_utils.Tensor("SAMPLE_LENS", lengths)]
        )

    def _rows(self, request):
        inputs = {tensor.name(): tensor for tensor in request.inputs()}
        if ("WAV" in inputs) == ("AUDIO" in inputs):
            raise audio.AudioError(f"inputs are {sorted(inputs)}: send either WAV or AUDIO")
        if "AUDIO" in inputs:
            return [audio.from_file(content, self.max_seconds) for content in inputs["AUDIO"].as_numpy().reshape(-1)]
        wav = inputs["WAV"].as_numpy()
        lengths = inputs["WAV_LENS"].as_numpy().reshape(-1) if "WAV_LENS" in inputs else [None] * len(wav)
        if len(lengths) != len(wav):
            raise audio.AudioError(f"WAV has {len(wav)} rows, WAV_LENS {len(lengths)}: send one length a row")
        sample_rate = json.loads(request.parameters() or "{}").get("sample_rate", audio.SAMPLE_RATE)
        return [
            audio.from_pcm(row, None if length is None else int(length), sample_rate, self.max_seconds)
            for row, length in zip(wav, lengths, strict=True)
        ]
