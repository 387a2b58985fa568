"""config.pbtxt of a model that is one ONNX graph: its inputs and outputs as the file declares them."""

from pathlib import Path

import onnx

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
    "encoder": "The encoder: once an utterance, audio in, what the decoder attends to out.",
    "decoder": "One step of the decode loop for a batch of rows.",
}


def write_config(model_directory: Path) -> None:
    """Write ``model_directory/config.pbtxt`` for ``1/model.onnx``; names, types and ranks are the file's."""
    graph = onnx.load(model_directory / "1" / "model.onnx", load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor(value) for value in graph.input if value.name not in weights]
    outputs = [_tensor(value) for value in graph.output]
    text = f"""# {_PURPOSE[model_directory.name]}
# decoder_loop calls it here in execution_mode bls. `make models` writes this file and 1/model.onnx together.
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
    path = model_directory / "config.pbtxt"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _joined(lines: list[str]) -> str:
    return ",\n".join(f"  {line}" for line in lines)


def _tensor(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = [dim.dim_value or -1 for dim in tensor.shape.dim]
    return (
        f'{{ name: "{value.name}" data_type: {_TYPES[onnx.TensorProto.DataType.Name(tensor.elem_type)]} dims: {dims} }}'
    )
