"""The vendor's model: greedy decoding with its two graphs wherever they run, and the files of the baselines."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asrloop import paths
from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.families.moonshine.decoding import DECODER, ENCODER, TOKENS_PER_SECOND, VOCABULARY
from asrloop.onnx_files.sessions import Graph, Tensors, session_graph
from asrloop.paths import link_or_copy
from asrloop.wheels import MOONSHINE_MODEL, moonshine_assets
from asrloop_bench.checkout import LADDER_MODELS, PREPARED

VENDOR_LOOP = LADDER_MODELS / "vendor_loop" / "1"
"""Folder with both graphs of the vendor and its vocabulary."""

BOS, EOS = 1, 2
LAYERS, HEADS, HEAD_SIZE = 6, 8, 36

_SIDES = ("decoder.key", "decoder.value", "encoder.key", "encoder.value")
_PARTS = [f"{layer}.{side}" for layer in range(LAYERS) for side in _SIDES]
_GROWING = [part for part in _PARTS if "decoder" in part]


class VendorLoop:
    """Moonshine tiny-en as the moonshine-voice wheel has it: the decoder takes and returns its whole K/V at every step."""

    def __init__(self, encoder: Graph, decoder: Graph) -> None:
        self._encoder = encoder
        self._decoder = decoder

    def tokens(self, samples: Samples) -> list[int]:
        """Return the token ids of ``samples`` f32 [N], 16 kHz, without BOS and EOS."""
        step = self.start(samples, self.encode(samples))
        found: list[int] = []
        for _ in range(int(len(samples) / SAMPLE_RATE * TOKENS_PER_SECOND) + 1):
            token = step()
            if token == EOS:
                break
            found.append(token)
        return found

    def encode(self, samples: Samples) -> NDArray[np.float32]:
        """Return the encoder's output f32 [1, S, 288]."""
        audio = samples[None]
        inputs: Tensors = {"input_values": audio, "attention_mask": np.ones(audio.shape, np.int64)}
        return np.asarray(self._encoder(inputs, ["last_hidden_state"])["last_hidden_state"])

    def start(self, samples: Samples, hidden: NDArray[np.float32]) -> Callable[[], int]:
        """Return a function that makes one step after ``encode`` and returns its token."""
        inputs: dict[str, NDArray[Any]] = {
            "encoder_attention_mask": np.ones((1, len(samples)), np.int64),
            "encoder_hidden_states": hidden,
            "input_ids": np.array([[BOS]], np.int64),
            "use_cache_branch": np.array([False]),
            **{f"past_key_values.{part}": np.zeros((1, HEADS, 0, HEAD_SIZE), np.float32) for part in _PARTS},
        }

        def step() -> int:
            # The K/V of the encoder do not change after the first step: they need not be fetched again.
            parts = _GROWING if inputs["use_cache_branch"][0] else _PARTS
            outputs = self._decoder(inputs, ["logits", *(f"present.{part}" for part in parts)])
            inputs.update({f"past_key_values.{part}": outputs[f"present.{part}"] for part in parts})
            inputs["use_cache_branch"] = np.array([True])
            token = int(outputs["logits"][0, -1].argmax())
            inputs["input_ids"] = np.array([[token]], np.int64)
            return token

        return step


def open_loop(directory: Path, threads: int) -> VendorLoop:
    """Open the loop on ONNX Runtime sessions of this process, each on ``threads`` threads, with plain runs.

    ``directory`` holds the two graphs under the names that the project's own have.
    """
    encoder, decoder = (open_session(directory / name, threads) for name in (ENCODER, DECODER))
    return VendorLoop(session_graph(encoder), session_graph(decoder))


def open_session(path: Path, threads: int) -> ort.InferenceSession:
    """Open a session as ``asrloop.onnx_files.sessions.open_session`` makes it, but with all of ONNX Runtime's graph optimisations.

    The project's sessions have only the basic ones, because its graphs are written fused. The vendor's are not, and a
    comparison with less than ONNX Runtime can do for them would be unfair.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def prepare() -> Path:
    """Make the vendor's graphs where they are missing, and put each model's files into its folder. Returns the repository.

    Raises WheelError, and OSError where the project's own model was not made.
    """
    import onnx  # not in a model's process

    from asrloop.onnx_files.ort_format import to_onnx

    vendor = moonshine_assets(paths.cache()) / MOONSHINE_MODEL
    for name, source in ((ENCODER, "encoder_model.ort"), (DECODER, "decoder_model_merged.ort")):
        graph = LADDER_MODELS / f"vendor_{Path(name).stem}" / "1" / "model.onnx"
        if not graph.is_file():
            partial = graph.with_suffix(".part")
            onnx.save(to_onnx(vendor / source), partial)
            partial.replace(graph)
        put(graph, VENDOR_LOOP / name)
    for model in ("vendor_loop", "vendor_loop_bls"):
        put(vendor / VOCABULARY, LADDER_MODELS / model / "1" / VOCABULARY)
    mirror(PREPARED, LADDER_MODELS / "clean_loop" / "1")
    return LADDER_MODELS


def mirror(prepared: Path, folder: Path) -> None:
    """Make ``folder`` hold the files of the prepared model and no other; its ``model.py`` stays its own."""
    wanted = {path.name: path for path in _files(prepared)}
    for old in _files(folder):
        if old.name not in wanted:
            old.unlink()
    for name, path in wanted.items():
        put(path, folder / name)


def put(source: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``source``, or a copy of it where links fail. Does nothing where it is one already."""
    if target.exists():
        there, here = target.stat(), source.stat()
        if os.path.samestat(there, here) or (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns):
            return
    partial = target.with_name(f".{target.name}.part")
    partial.unlink(missing_ok=True)
    link_or_copy(source, partial)
    partial.replace(target)


def _files(folder: Path) -> list[Path]:
    """Return the files of a prepared model: all but the code and hidden files."""
    return [path for path in folder.iterdir() if path.is_file() and path.suffix != ".py" and path.name[0] != "."]
