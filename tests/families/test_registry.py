"""Models are made through one door: what does not exist or does not fit together is refused, and the old model stays."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asrloop import config
from asrloop.cli import app
from asrloop.families import registry
from asrloop.speech.detector import DETECTOR, open_detector
from tests.conftest import ROOT

TINY_TDT = ROOT / "training" / "tiny-tdt"


@pytest.mark.parametrize(
    ("family", "source", "precision", "says"),
    [
        ("whisper", None, None, "family is 'whisper': choose one of moonshine, transducer, nemo"),
        ("nemo", None, None, "--family nemo needs --from DIR, a directory with encoder-model.onnx"),
        ("transducer", None, None, "--family transducer needs --from DIR"),
        ("nemo", TINY_TDT, "int8", "precision is 'int8': --family nemo has fp32"),
        ("moonshine", None, "int3", "precision is 'int3': --family moonshine has int8-vnni, int8, int8-decoder, fp32"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(
    family: str, source: Path | None, precision: str | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        registry.resolved(family, source, precision)


def test_nemo_without_a_directory_is_refused_although_models_are_there(model_repository: Path) -> None:
    result = CliRunner().invoke(app, ["models", "--family", "nemo", "--model-repository", str(model_repository)])
    assert result.exit_code == 1
    assert "--family nemo needs --from DIR" in result.output


def test_another_family_takes_the_place_of_the_first(tmp_path: Path) -> None:
    repository = tmp_path / "model_repository"
    prepared = repository / "decoder_loop" / "1"
    prepared.mkdir(parents=True)
    (prepared / "model.py").write_text("# ours\n")
    (prepared / "tokenizer.bin").write_text("of the family before\n")
    (prepared / "family.json").write_text(
        f'{{"family": "moonshine", "precision": "int8", "format": {registry.FORMAT}}}\n'
    )
    options = ["--model-repository", str(repository)]
    assert "Models are ready" in CliRunner().invoke(app, ["models", *options]).output
    made = CliRunner().invoke(app, ["models", "--family", "nemo", "--from", str(TINY_TDT), *options])
    assert made.exit_code == 0, made.output
    assert json.loads((prepared / "family.json").read_text())["family"] == "transducer"
    assert (prepared / "model.py").read_text() == "# ours\n"
    assert not (prepared / "tokenizer.bin").exists()
    assert registry.open_family(prepared, config.load()).vocabulary_size == 42
    assert (tmp_path / "bls_repository" / "decoder" / "1" / "model.onnx").is_file()
    # Nobody asked for another model: what is there stays.
    assert "Models are ready" in CliRunner().invoke(app, ["models", *options]).output
    assert json.loads((prepared / "family.json").read_text())["family"] == "transducer"


def test_a_default_model_of_an_older_format_is_made_again_but_ones_own_is_not(tmp_path: Path) -> None:
    (tmp_path / "family.json").write_text('{"family": "moonshine", "precision": "int8"}')
    assert not registry.holds(tmp_path)
    (tmp_path / "family.json").write_text('{"family": "transducer"}')
    assert registry.holds(tmp_path)


def test_a_failed_build_leaves_the_old_model(tmp_path: Path) -> None:
    registry.build("transducer", TINY_TDT, tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        registry.build("moonshine", tmp_path / "nowhere", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert registry.holds(tmp_path, "transducer", "fp32")


def test_a_model_of_an_older_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    registry.build("transducer", TINY_TDT, tmp_path)
    description = json.loads((tmp_path / "family.json").read_text())
    (tmp_path / "family.json").write_text(json.dumps(description | {"format": 1}))
    with pytest.raises(ValueError, match=r"format is 1, this version of asrloop opens 2; .* `asrloop models --force`"):
        registry.open_family(tmp_path, config.load())


def test_a_prepared_model_holds_the_speech_detector(tmp_path: Path) -> None:
    registry.build("transducer", TINY_TDT, tmp_path)
    assert open_detector(tmp_path)(np.zeros(512, np.float32))[0].shape == (1,)
    (tmp_path / DETECTOR).unlink()
    with pytest.raises(FileNotFoundError, match=r"speech_detector\.onnx is missing; make the models again"):
        open_detector(tmp_path)


def test_opening_needs_no_onnx() -> None:
    """What serves must not import the package that only builds: it is large, and a server image may lack it."""
    program = "import asrloop.cli, asrloop.families.registry, sys; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_an_empty_directory_and_an_unknown_family_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"family\.json is missing; make the models"):
        registry.open_family(tmp_path, config.load())
    (tmp_path / "family.json").write_text('{"family": "whisper"}')
    with pytest.raises(ValueError, match="family is 'whisper', known are moonshine, transducer"):
        registry.open_family(tmp_path, config.load())
