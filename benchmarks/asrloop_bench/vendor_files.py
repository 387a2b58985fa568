"""The vendor's graphs as ONNX files in the repository of baseline models."""

from pathlib import Path

import onnx

from asrloop.export.ort_format import to_onnx
from asrloop.wheels import MOONSHINE_TINY_EN

MODELS = Path(__file__).resolve().parents[1] / "models"
SOURCES = {"vendor_encoder": "encoder_model.ort", "vendor_decoder": "decoder_model_merged.ort"}


def prepare(cache: Path, models: Path = MODELS) -> Path:
    """Write ``<model>/1/model.onnx`` for both graphs where it is missing; returns the model repository."""
    assets = MOONSHINE_TINY_EN.fetch(cache) / "moonshine_voice" / "assets" / "tiny-en"
    for name, source in SOURCES.items():
        path = graph(name, models)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            onnx.save(to_onnx(assets / source), partial)
            partial.replace(path)
    return models


def graph(name: str, models: Path = MODELS) -> Path:
    """Where the graph of the baseline model ``name`` is."""
    return models / name / "1" / "model.onnx"
