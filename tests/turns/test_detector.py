"""The turn detector against its authors' features, and in integers against fp32."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from asrloop import wheels
from asrloop.families.quantize.linear import Float32
from asrloop.onnx_files.graph_writer import with_outputs
from asrloop.turns.detector import SAMPLES, TurnDetector
from asrloop.turns.graph import write_turn_graph
from asrloop.wheels import TURN_DETECTOR
from tests.conftest import ROOT

NETWORK = wheels.turn_network(ROOT / ".cache")


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    """The module in which the authors compute the features with NumPy."""
    spec = spec_from_file_location("whisper_features", NETWORK.parents[1] / "_whisper_features.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the detector in fp32."""
    directory = tmp_path_factory.mktemp("fp32")
    write_turn_graph(NETWORK, directory / TURN_DETECTOR, Float32())
    return directory


def test_the_features_are_those_of_its_authors(
    theirs: ModuleType, fp32: Path, beckett: NDArray[np.float32], tmp_path: Path
) -> None:
    onnx.save(with_outputs(onnx.load(fp32 / TURN_DETECTOR), ["mel"]), tmp_path / "mel.onnx")
    session = ort.InferenceSession(tmp_path / "mel.onnx")
    for samples in (
        beckett[:SAMPLES],
        np.pad(beckett[:40_000], (SAMPLES - 40_000, 0)),
        0.01 * beckett[-SAMPLES:],
    ):
        (ours,) = session.run(["mel"], {"samples": samples[None].astype(np.float32)})
        np.testing.assert_allclose(ours[0], theirs.compute_whisper_log_mel_features(samples), atol=1e-4)


def test_integers_give_what_fp32_gives(model_repository: Path, fp32: Path, beckett: NDArray[np.float32]) -> None:
    exact, ours = TurnDetector(fp32), TurnDetector(model_repository / "asr_stream" / "1")
    pieces = [beckett[:end] for end in range(16_000, beckett.size, 16_000)]
    given = np.array([(exact(piece), ours(piece)) for piece in pieces])
    assert np.ptp(given[:, 0]) > 0.3, "some are done and some are not"
    assert np.abs(given[:, 0] - given[:, 1]).max() < 0.2


def test_only_the_last_seconds_count(model_repository: Path, beckett: NDArray[np.float32]) -> None:
    detector = TurnDetector(model_repository / "asr_stream" / "1")
    assert detector(beckett) == detector(beckett[-SAMPLES:])
    assert 0 <= detector(np.zeros(0, np.float32)) <= 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"turn_detector\.onnx is missing; make it with `asrloop models`"):
        TurnDetector(tmp_path)


def test_another_network_is_refused(tmp_path: Path, model_repository: Path) -> None:
    other = model_repository / "asr_stream" / "1" / "speech_detector.onnx"
    with pytest.raises(ValueError, match="must have input_features and logits"):
        write_turn_graph(other, tmp_path / "turns.onnx")
