"""The checkout that is measured. This package is installed editable, so its own place says where that is."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL_REPOSITORY = ROOT / "model_repository"
PREPARED = MODEL_REPOSITORY / "decoder_loop" / "1"

SAVED_LADDER = ROOT / "benchmarks" / "saved" / "ladder.json"

LADDER_MODELS = ROOT / "benchmarks" / "models"

IDLE_MODELS = ROOT / "benchmarks" / "models_without_work"
"""Repository of does_nothing, which has asr_ensemble's contract."""
