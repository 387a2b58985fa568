"""Model repository for ``execution_mode: bls``: encoder and decoder of a prepared model as separate Triton models."""

import shutil
from pathlib import Path

import onnx

from asrloop.onnx_files.external_data import external_data
from asrloop.paths import link_or_copy

_TYPES = {
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "INT8": "TYPE_INT8",
    "UINT8": "TYPE_UINT8",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
    "BOOL": "TYPE_BOOL",
}
_PURPOSE = {
    "encoder": "The encoder: runs once for each utterance; audio in, inputs of the decoder out.",
    "decoder": "One step of the decode loop for a batch of rows.",
}


def write(prepared: Path, repository: Path) -> None:
    """Make ``repository/{encoder,decoder}`` from the prepared model's ``encoder.onnx`` and ``decoder.onnx``.

    Each gets a config.pbtxt with the names, types and ranks of the file's inputs and outputs. Files are hard links where
    the file system supports them.
    """
    for name, purpose in _PURPOSE.items():
        model = prepared / f"{name}.onnx"
        version = repository / name / "1"
        shutil.rmtree(version, ignore_errors=True)
        version.mkdir(parents=True)
        link_or_copy(model, version / "model.onnx")
        for data in external_data(model):
            link_or_copy(data, version / data.name)
        (repository / name / "config.pbtxt").write_text(_config(model, purpose), encoding="utf-8")


def _config(model: Path, purpose: str) -> str:
    graph = onnx.load(model, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor(value) for value in graph.input if value.name not in weights]
    outputs = [_tensor(value) for value in graph.output]
    return f"""# {purpose}
# Made together with the models; decoder_loop calls it in execution_mode bls.
backend: "onnxruntime"
max_batch_size: 0
input [
{_joined(inputs)}
]
output [
{_joined(outputs)}
]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""


def _joined(lines: list[str]) -> str:
    return ",\n".join(f"  {line}" for line in lines)


def _tensor(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = [dim.dim_value or -1 for dim in tensor.shape.dim]
    return (
        f'{{ name: "{value.name}" data_type: {_TYPES[onnx.TensorProto.DataType.Name(tensor.elem_type)]} dims: {dims} }}'
    )
