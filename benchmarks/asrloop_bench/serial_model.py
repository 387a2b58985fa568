"""Baselines as Triton models: the loop runs in the server, one utterance at a time. Imported by Triton's Python stub only."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
from numpy.typing import NDArray

from asrloop import config, families
from asrloop.cores import usable_cores
from asrloop.vocabulary import Vocabulary
from asrloop_bench import vendor_files
from asrloop_bench.vendor_loop import Run, Tensors, VendorLoop, sessions

Transcribe = Callable[[NDArray[np.float32]], tuple[list[int], str]]


class SerialModel:
    """SAMPLES and SAMPLE_LENS in, the outputs of decoder_loop out; a request is answered before the next is looked at."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the models."""
        self.transcribe = self.open(
            Path(args["model_repository"]), json.loads(args["model_config"]).get("parameters", {})
        )

    def open(self, directory: Path, parameters: dict[str, Any]) -> Transcribe:
        """What makes text of samples."""
        raise NotImplementedError

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request."""
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        """The response to one request."""
        samples = pb_utils.get_input_tensor_by_name(request, "SAMPLES").as_numpy()
        lengths = pb_utils.get_input_tensor_by_name(request, "SAMPLE_LENS").as_numpy().reshape(-1)
        rows = [self.transcribe(row[:length].copy()) for row, length in zip(samples, lengths, strict=True)]
        tokens = np.full((len(rows), max(len(row) for row, _ in rows)), -1, np.int32)
        for index, (row, _) in enumerate(rows):
            tokens[index, : len(row)] = row
        texts = np.array([[text.encode()] for _, text in rows], np.object_)
        times = np.zeros((len(rows), 0), np.float32)
        outputs = {"TRANSCRIPTS": texts, "TOKENS": tokens, "TOKEN_TIMES": times}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])


class VendorModel(SerialModel):
    """The vendor's graphs; the parameter ``execution_mode`` is ``bls`` or ``in_process``."""

    def open(self, directory: Path, parameters: dict[str, Any]) -> Transcribe:
        """The greedy loop and the vocabulary."""
        if parameters["execution_mode"]["string_value"] == "bls":
            loop = VendorLoop(bls_run("vendor_encoder"), bls_run("vendor_decoder"))
        else:
            encoder, decoder = (vendor_files.graph(name, directory.parent) for name in vendor_files.SOURCES)
            loop = sessions(encoder, decoder, config.load().engine.decoder_threads or usable_cores())
        vocabulary = Vocabulary.read_binary(main_repository(directory) / "decoder" / "1" / "tokenizer.bin")

        def transcribe(samples: NDArray[np.float32]) -> tuple[list[int], str]:
            tokens = loop.tokens(samples)
            return tokens, vocabulary.text(tokens)

        return transcribe


class CleanModel(SerialModel):
    """The project's graphs, one slot."""

    def open(self, directory: Path, parameters: dict[str, Any]) -> Transcribe:
        """The family with a single row."""
        settings = config.load()
        alone = settings.model_copy(update={"engine": settings.engine.model_copy(update={"slots": 1})})
        family = families.open_family(main_repository(directory), alone)

        def transcribe(samples: NDArray[np.float32]) -> tuple[list[int], str]:
            family.admit(0, family.encode(samples))
            tokens: list[int] = []
            while True:
                (emission,) = family.step([0])
                tokens.extend(emission.tokens)
                if emission.done:
                    return tokens, family.text(tokens)

        return transcribe


def main_repository(directory: Path) -> Path:
    """The project's model repository, two folders above this one's."""
    return directory.parents[2] / "model_repository"


def bls_run(model_name: str) -> Run:
    """A graph that is called through Triton."""

    def run(inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in inputs.items()]
        request = pb_utils.InferenceRequest(model_name=model_name, requested_output_names=list(outputs), inputs=tensors)
        response = request.exec()
        if response.has_error():
            raise RuntimeError(f"{model_name}: {response.error().message()}")
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}

    return run
