"""Greedy decoding with the vendor's two graphs, one utterance at a time, wherever the graphs run: what the ladder starts from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]
Run = Callable[[Tensors, Sequence[str]], Tensors]
"""Runs a graph: inputs by name and wanted output names to outputs by name."""

BOS, EOS = 1, 2
LAYERS, HEADS, HEAD_SIZE = 6, 8, 36
TOKENS_PER_SECOND = 6.5
SAMPLE_RATE = 16_000

_PARTS = [
    f"{layer}.{part}"
    for layer in range(LAYERS)
    for part in ("decoder.key", "decoder.value", "encoder.key", "encoder.value")
]
_GROWING = [part for part in _PARTS if "decoder" in part]


class VendorLoop:
    """Moonshine tiny-en as the moonshine-voice wheel has it: the decoder takes and returns its whole K/V at every step."""

    def __init__(self, encoder: Run, decoder: Run) -> None:
        self._encoder = encoder
        self._decoder = decoder

    def tokens(self, samples: NDArray[np.float32]) -> list[int]:
        """Token ids of ``samples`` f32 [N], 16 kHz, without BOS and EOS."""
        step = self.start(samples, self.encode(samples))
        found: list[int] = []
        for _ in range(int(len(samples) / SAMPLE_RATE * TOKENS_PER_SECOND) + 1):
            token = step()
            if token == EOS:
                break
            found.append(token)
        return found

    def encode(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encoder output f32 [1, S, 288]."""
        audio = samples[None]
        inputs: Tensors = {"input_values": audio, "attention_mask": np.ones(audio.shape, np.int64)}
        return np.asarray(self._encoder(inputs, ["last_hidden_state"])["last_hidden_state"])

    def start(self, samples: NDArray[np.float32], hidden: NDArray[np.float32], rows: int = 1) -> Callable[[], int]:
        """A function that makes one step of ``rows`` equal rows and returns the token of the first."""
        inputs: dict[str, NDArray[Any]] = {
            "encoder_attention_mask": np.ones((rows, len(samples)), np.int64),
            "encoder_hidden_states": np.repeat(hidden, rows, axis=0),
            "input_ids": np.full((rows, 1), BOS, np.int64),
            "use_cache_branch": np.array([False]),
            **{f"past_key_values.{part}": np.zeros((rows, HEADS, 0, HEAD_SIZE), np.float32) for part in _PARTS},
        }

        def step() -> int:
            # The K/V of the encoder do not change after the first step: they need not be fetched again.
            parts = _GROWING if inputs["use_cache_branch"][0] else _PARTS
            outputs = self._decoder(inputs, ["logits", *(f"present.{part}" for part in parts)])
            inputs.update({f"past_key_values.{part}": outputs[f"present.{part}"] for part in parts})
            inputs["use_cache_branch"] = np.array([True])
            chosen = outputs["logits"][:, -1].argmax(axis=1)
            inputs["input_ids"] = chosen[:, None].astype(np.int64)
            return int(chosen[0])

        return step


def sessions(encoder: Path, decoder: Path, threads: int) -> VendorLoop:
    """The loop on ONNX Runtime sessions of this process, run plainly."""
    return VendorLoop(session_run(encoder, threads), session_run(decoder, threads))


def session_run(path: Path, threads: int) -> Run:
    """A graph file as a callable."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        return dict(zip(outputs, session.run(list(outputs), dict(inputs)), strict=True))

    return run
