"""Models that are large: weights beside the graph, and one encoding at a time."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop.engine.options import Options
from asrloop.families import registry
from asrloop.families.whisper import decoding
from asrloop.families.whisper.decoding import Whisper
from asrloop.onnx_files import bls_repository, external_data
from tests.families.whisper.folders import TURBO, HuggingFaceFolder, random_tensors


def test_weights_beside_the_graph_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beckett: NDArray[np.float32]
) -> None:
    source = HuggingFaceFolder(TURBO, random_tensors(TURBO)).write(tmp_path / "source")
    registry.build("whisper", source, tmp_path / "small", "fp32", lambda line: None)
    monkeypatch.setattr(external_data, "MOST_INSIDE", 1000)
    monkeypatch.setattr(decoding, "LARGE", 1000)
    registry.build("whisper", source, tmp_path / "large", "fp32", lambda line: None)
    assert (tmp_path / "large" / "encoder.onnx.data").is_file()
    large = Whisper(tmp_path / "large", slots=1, max_audio_seconds=28, encoder_threads=2)
    assert not large.info.encodes_side_by_side
    monkeypatch.undo()
    small = Whisper(tmp_path / "small", slots=1, max_audio_seconds=28, encoder_threads=2)
    assert small.info.encodes_side_by_side
    assert said(large, beckett) == said(small, beckett)
    bls_repository.write(tmp_path / "large", tmp_path / "bls")
    assert (tmp_path / "bls" / "encoder" / "1" / "encoder.onnx.data").is_file()


def said(family: Whisper, samples: NDArray[np.float32]) -> list[int]:
    options = Options(language="en")
    found = [family.admit(0, family.encode(samples[:16_000], options), options)]
    while not found[-1].done:
        found += family.step([0])
    return [token for one in found for token in one.tokens]
