"""Transducers to decode with: the trained tiny one and random ones of Parakeet's sizes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asrloop_train import random_transducer

from asrloop.families import registry
from asrloop.families.transducer.greedy import Transducer
from asrloop.families.transducer.opening import NUMBERS, open_transducer
from asrloop.onnx_files.sessions import Graphs
from tests.families.conftest import Samples, read_audio

TINY = Path(__file__).resolve().parents[3] / "training" / "tiny-tdt"
SLOTS = 16

Open = Callable[..., Transducer]


@pytest.fixture(scope="session")
def random_tdt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, TDT, the sizes of Parakeet TDT 0.6B v2."""
    directory = tmp_path_factory.mktemp("random-tdt")
    random_transducer.write(directory)
    return directory


@pytest.fixture(scope="session")
def random_rnnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, RNN-T, the sizes of Parakeet RNN-T 0.6B."""
    directory = tmp_path_factory.mktemp("random-rnnt")
    random_transducer.write(directory, random_transducer.Sizes(durations=0), blank_share=0.9)
    return directory


@pytest.fixture(scope="session")
def small_tdt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, TDT, small and quick."""
    directory = tmp_path_factory.mktemp("small-tdt")
    random_transducer.write(directory, random_transducer.Sizes(32, 2, 24, 16, 40, 5))
    return directory


@pytest.fixture(scope="session")
def small_rnnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, RNN-T with one LSTM layer, small and quick."""
    directory = tmp_path_factory.mktemp("small-rnnt")
    random_transducer.write(directory, random_transducer.Sizes(32, 1, 24, 16, 40, 0), blank_share=0.7)
    return directory


@pytest.fixture(scope="session")
def open_directory(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Prepare a NeMo directory once and open it; ``settings`` replace numbers of its family.json."""
    prepared: dict[Path, Path] = {}

    def open_it(directory: Path, settings: dict[str, Any] | None = None, graphs: Graphs | None = None) -> Transducer:
        if directory not in prepared:
            prepared[directory] = tmp_path_factory.mktemp("prepared")
            registry.build("transducer", directory, prepared[directory])
        description = prepared[directory] / NUMBERS
        original = description.read_text()
        try:
            description.write_text(json.dumps(json.loads(original) | (settings or {})))
            return open_transducer(
                prepared[directory],
                slots=SLOTS,
                max_audio_seconds=60,
                encoder_threads=1,
                decoder_threads=1,
                graphs=graphs,
            )
        finally:
            description.write_text(original)

    return open_it


@pytest.fixture(scope="session")
def synthetic() -> list[tuple[str, Samples]]:
    """Texts and speech of the tiny transducer's vocabulary, by voices that it was not trained on."""
    lines = (TINY / "speech" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return [(entry["text"], read_audio(TINY / "speech" / entry["file"])) for entry in entries]
