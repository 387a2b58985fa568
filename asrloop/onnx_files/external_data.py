"""Weights that an ONNX file keeps in files beside it."""

from pathlib import Path

import onnx
from onnx import external_data_helper


def external_data(path: Path) -> list[Path]:
    """Return the files beside ``path`` that hold its weights; empty when the weights are inside."""
    model = onnx.load(path, load_external_data=False)
    tensors = [tensor for tensor in model.graph.initializer if external_data_helper.uses_external_data(tensor)]
    locations = {external_data_helper.ExternalDataInfo(tensor).location for tensor in tensors}
    return [path.parent / location for location in sorted(locations)]


MOST_INSIDE = 1 << 30
"""Bytes of weights that are kept inside; protobuf reads no file of 2 GB."""


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` to ``path``, and its weights to a file beside it where they are large. ``model`` is changed then."""
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= MOST_INSIDE:
        path.write_bytes(model.SerializeToString())
        return
    onnx.save_model(model, str(path), save_as_external_data=True, location=f"{path.name}.data", size_threshold=1 << 16)
