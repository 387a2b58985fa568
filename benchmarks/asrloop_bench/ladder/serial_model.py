"""Baselines as Triton models: the loop runs in the server, one utterance at a time. Imported by Triton's Python stub only."""

from __future__ import annotations  # pb_utils lacks the classes while Triton completes the configuration

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from asrloop import config
from asrloop.audio import SAMPLE_RATE, Samples, from_pcm
from asrloop.cores import usable_cores
from asrloop.engine.outputs import Transcript, tensors_of
from asrloop.errors import InvalidAudio
from asrloop.families.moonshine.decoding import INFO, VOCABULARY
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.onnx_files.sessions import Graph, Tensors
from asrloop_bench import in_process
from asrloop_bench.vendor import VendorLoop, open_loop


class TritonPythonModel:
    """WAV at 16 kHz and WAV_LENS in, the outputs of decoder_loop out; a request is answered before the next is looked at.

    The parameter ``graphs`` of config.pbtxt chooses: ``project`` and ``vendor`` are sessions of this process on the files in the
    model's own folder, ``vendor_bls`` are the vendor's graphs called through Triton.
    """

    def initialize(self, args: dict[str, str]) -> None:
        given = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in given.items()}
        directory = Path(args["model_repository"], args["model_version"])
        # 0 means as many threads as the machine has cores.
        threads = int(parameters.get("intra_op_thread_count", 0)) or usable_cores()
        self.tokens: Callable[[Samples], list[int]]
        if parameters["graphs"] == "project":
            family = in_process.open_family(config.load(), slots=1, threads=threads, directory=directory)
            self.text = family.text
            self.tokens = lambda samples: in_process.decode(family, samples, alone=True).tokens
            return
        self.text = Vocabulary.read_binary(directory / VOCABULARY).text
        if parameters["graphs"] == "vendor":
            self.tokens = open_loop(directory, threads).tokens
        else:
            self.tokens = VendorLoop(bls_graph("vendor_encoder"), bls_graph("vendor_decoder")).tokens

    def execute(self, requests: Sequence[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        return [self.answer(request) for request in requests]

    def answer(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        try:
            rows = from_pcm(tensors["WAV"], tensors.get("WAV_LENS"), SAMPLE_RATE, INFO.windows.longest)
        except InvalidAudio as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        found = [self.tokens(row) for row in rows]
        outputs = tensors_of([Transcript(self.text(tokens), tokens, [], []) for tokens in found])
        return pb_utils.InferenceResponse([pb_utils.Tensor(*output) for output in outputs.items()])


def bls_graph(model_name: str) -> Graph:

    def run(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in inputs.items()]
        request = pb_utils.InferenceRequest(model_name=model_name, requested_output_names=list(outputs), inputs=tensors)
        response = request.exec()
        if response.has_error():
            raise RuntimeError(f"{model_name}: {response.error().message()}")
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}

    return run
