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
