"""Reads and checks a NeMo transducer directory in the layout that onnx-asr publishes, without running anything."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from asrloop.families.transducer.opening import BLANK, read_vocabulary
from asrloop.onnx_files.external_data import external_data

ENCODER = "encoder-model.onnx"
DECODER_JOINT = "decoder_joint-model.onnx"
VOCABULARY = "vocab.txt"
CONFIG = "config.json"

MODEL_TYPES = {"nemo-conformer-tdt": True, "nemo-conformer-rnnt": False}
"""Transducers among the model types of ``config.json``; True for those with durations."""


class NemoDirectoryError(ValueError):
    """The directory cannot be served; the message names the file and how to fix it."""


@dataclass(frozen=True)
class NemoDirectory:
    """Contents and sizes of the files of a directory."""

    path: Path
    vocabulary: tuple[str, ...]
    bands: int
    """Mel bands that the encoder takes."""

    encoder_width: int
    state_shapes: tuple[tuple[int, int], tuple[int, int]]
    """(layers, width) of each state of the prediction network."""

    targets_dtype: str
    """int32 or int64."""

    model_type: str | None
    subsampling_factor: int
    max_tokens_per_frame: int

    @property
    def blank(self) -> int:
        return self.vocabulary.index(BLANK)


def read(path: Path) -> NemoDirectory:
    """Check ``path`` and read its numbers. Raises NemoDirectoryError."""
    for name in (ENCODER, DECODER_JOINT, VOCABULARY):
        if not (path / name).is_file():
            raise NemoDirectoryError(
                f"{path / name} is missing; the directory needs {ENCODER}, {DECODER_JOINT} and {VOCABULARY}, and may have "
                f"{CONFIG} (the layout of onnx-asr's NeMo transducers, files without quantisation)"
            )
    encoder = _signature(path / ENCODER, {"audio_signal": 3, "length": 1}, {"outputs": 3, "encoded_lengths": 1})
    decoder_joint = _signature(
        path / DECODER_JOINT,
        {"encoder_outputs": 3, "targets": 2, "target_length": 1, "input_states_1": 3, "input_states_2": 3},
        {"outputs": 4, "output_states_1": 3, "output_states_2": 3},
    )
    for data in external_data(path / ENCODER) + external_data(path / DECODER_JOINT):
        if data.parent != path:
            raise NemoDirectoryError(
                f"{data} is outside {path}, where a model looks for weights; save it with them beside it"
            )
        if not data.is_file():
            raise NemoDirectoryError(f"{data} is missing; it holds weights of a model beside it: copy it there too")
    try:
        vocabulary = read_vocabulary(path / VOCABULARY)
    except ValueError as error:
        raise NemoDirectoryError(str(error)) from None
    config = _config(path / CONFIG)
    return NemoDirectory(
        path=path,
        vocabulary=vocabulary,
        bands=_size(path / ENCODER, encoder["audio_signal"], 1, config.get("features_size")),
        encoder_width=_size(path / DECODER_JOINT, decoder_joint["encoder_outputs"], 1, _fixed(encoder["outputs"], 1)),
        state_shapes=(
            _state(path / DECODER_JOINT, decoder_joint["input_states_1"]),
            _state(path / DECODER_JOINT, decoder_joint["input_states_2"]),
        ),
        targets_dtype="int64" if decoder_joint["targets"].type.tensor_type.elem_type == TensorProto.INT64 else "int32",
        model_type=config.get("model_type"),
        subsampling_factor=config.get("subsampling_factor", 8),
        max_tokens_per_frame=config.get("max_tokens_per_step", 10),
    )


def _signature(path: Path, inputs: dict[str, int], outputs: dict[str, int]) -> dict[str, onnx.ValueInfoProto]:
    """Return the named inputs and outputs of a graph. Each must exist with its rank and, for states, in f32."""
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's own errors, which share no useful base
        raise NemoDirectoryError(f"{path} is no ONNX model: {error}; fetch or export it again") from None
    found = {value.name: value for value in [*graph.input, *graph.output]}
    for name, rank in (inputs | outputs).items():
        if name not in found:
            raise NemoDirectoryError(
                f"{path}: no tensor {name}; it has {sorted(found)}; export it from NeMo as a transducer"
            )
        shape = found[name].type.tensor_type.shape
        if found[name].type.tensor_type.HasField("shape") and len(shape.dim) != rank:
            raise NemoDirectoryError(f"{path}: {name} has rank {len(shape.dim)}, expected {rank}")
    for name in {"audio_signal", "encoder_outputs", "input_states_1", "input_states_2"} & found.keys():
        if (kind := found[name].type.tensor_type.elem_type) != TensorProto.FLOAT:
            raise NemoDirectoryError(
                f"{path}: {name} is {TensorProto.DataType.Name(kind)}, expected FLOAT; export in float32"
            )
    return found


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NemoDirectoryError(f"{path}: {error}; fix it, or remove it to use the defaults") from None
    if not isinstance(config, dict):
        raise NemoDirectoryError(f"{path} must be a JSON object, not {config!r}")
    for key in ("features_size", "subsampling_factor", "max_tokens_per_step"):
        if key in config and (not isinstance(config[key], int) or config[key] < 1):
            raise NemoDirectoryError(f"{path}: {key} is {config[key]!r}, expected a whole number from 1 on")
    if config.get("model_type") not in (None, *MODEL_TYPES):
        raise NemoDirectoryError(
            f"{path}: model_type is {config['model_type']!r}; this family serves {' and '.join(MODEL_TYPES)}"
        )
    return config


def _fixed(value: onnx.ValueInfoProto, axis: int) -> int | None:
    """Return the size of an axis; None when the file leaves it open."""
    dims = value.type.tensor_type.shape.dim
    return dims[axis].dim_value or None if axis < len(dims) else None


def _size(path: Path, value: onnx.ValueInfoProto, axis: int, elsewhere: int | None) -> int:
    """Return the size that the file gives an axis, or else the size known from ``elsewhere``; both must agree."""
    size = _fixed(value, axis) or elsewhere
    if size is None:
        raise NemoDirectoryError(
            f"{path}: axis {axis} of {value.name} has no size and {CONFIG} does not tell it; add it there"
        )
    if elsewhere not in (None, size):
        raise NemoDirectoryError(
            f"{path}: axis {axis} of {value.name} is {size}, but {elsewhere} was expected; do the files belong together?"
        )
    return size


def _state(path: Path, value: onnx.ValueInfoProto) -> tuple[int, int]:
    return _size(path, value, 0, None), _size(path, value, 2, None)
