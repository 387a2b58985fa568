"""Models are made through one door: what does not exist or does not fit together is refused, and the old model stays."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from asrloop import config, families
from asrloop.cli import app
from asrloop.config import Lengths, Settings, WindowSettings
from asrloop.engine.options import DEFAULTS
from asrloop.families import registry
from asrloop.speech.detector import open_detector
from asrloop.wheels import DETECTOR
from tests.conftest import ROOT

TINY_TDT = ROOT / "training" / "tiny-tdt"


@pytest.mark.parametrize(
    ("family", "source", "precision", "says"),
    [
        ("parakeet", None, None, "family is 'parakeet': choose one of moonshine, transducer, whisper, nemo"),
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


def test_a_family_is_found_by_its_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parrot").mkdir()
    (tmp_path / "parrot" / "__init__.py").touch()
    (tmp_path / "parrot" / "entry.py").write_text(
        "from asrloop.config import Lengths\n"
        "from asrloop.engine.family import FamilyInfo\n"
        "from asrloop.families.entry import FamilyEntry\n"
        "info = FamilyInfo(windows=Lengths(5.0, 8.0), languages=('fr',))\n"
        "ENTRY = FamilyEntry('parrot', info, open, 'no.module', {'fp32': ''}, lambda: 'fp32', 'a parrot', also_called=('polly',))\n"
    )
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    try:
        found = registry.entries_in(families.__path__)
    finally:
        for name in [name for name in sys.modules if name.startswith("asrloop.families.parrot")]:
            del sys.modules[name]
    assert list(found) == ["moonshine", "transducer", "whisper", "parrot"]
    monkeypatch.setattr(registry, "FAMILIES", found)
    assert registry.resolved("parrot", tmp_path, None) == ("parrot", "fp32")
    (tmp_path / "family.json").write_text('{"family": "parrot"}')
    info = registry.info_in(tmp_path, settings(parrot=Lengths(6.0, 9.0)))
    assert (info.windows, info.languages, info.tasks) == ((6.0, 9.0), ("fr",), ("transcribe",))
    own = {
        "family": "parrot",
        "languages": ["fr", "de"],
        "tasks": ["transcribe", "translate"],
        "detects_language": True,
    }
    (tmp_path / "family.json").write_text(json.dumps(own))
    info = registry.info_in(tmp_path, Settings())
    assert (info.languages, info.tasks, info.detects_language) == (("fr", "de"), ("transcribe", "translate"), True)


def settings(**lengths: Lengths) -> Settings:
    return Settings(windows=WindowSettings(lengths=lengths))


def test_settings_override_the_windows_and_family_json_the_languages(tmp_path: Path) -> None:
    registry.build("transducer", TINY_TDT, tmp_path, languages="en de")
    for graph in tmp_path.glob("*.onnx"):
        graph.rename(graph.with_suffix(".aside"))
    usual = registry.info_in(tmp_path, settings(moonshine=Lengths(4.0, 5.0)))
    assert (usual.windows, usual.languages, usual.takes_drafts) == ((20.0, 30.0), ("en", "de"), False)
    shorter = registry.info_in(tmp_path, settings(transducer=Lengths(12.0, 16.0)))
    assert shorter.windows == (12.0, 16.0)
    for graph in tmp_path.glob("*.aside"):
        graph.rename(graph.with_suffix(".onnx"))
    family = registry.open_family(tmp_path, settings(transducer=Lengths(12.0, 16.0)))
    assert family.info == shorter
    with pytest.raises(ValueError, match="between 1 and 256000 are accepted"):
        family.encode(np.zeros(256_001, np.float32), DEFAULTS)
    with pytest.raises(ValueError, match="windows.lengths has parrot: the families are moonshine, transducer"):
        registry.info_in(tmp_path, settings(parrot=Lengths(12.0, 16.0)))


def test_without_a_wish_the_languages_are_the_familys_own(tmp_path: Path, model_repository: Path) -> None:
    registry.build("transducer", TINY_TDT, tmp_path)
    assert json.loads((tmp_path / "family.json").read_text())["languages"] == ["en"]
    assert registry.info_in(model_repository / "decoder_loop" / "1", settings()).languages == (
        "en",
    )  # made before, or now


@pytest.mark.parametrize("languages", ["", "english", "en,de", "EN"])
def test_languages_that_are_no_codes_are_refused(languages: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name them by ISO 639 codes"):
        registry.build("transducer", TINY_TDT, tmp_path, languages=languages)


def test_live_audio_gets_the_detector_and_what_the_model_can_do(tmp_path: Path) -> None:
    loop, stream = tmp_path / "loop", tmp_path / "stream"
    registry.build("transducer", TINY_TDT, loop)
    registry.provide_live(loop, stream)
    assert not stream.exists()
    stream.mkdir()
    registry.provide_live(loop, stream)
    assert sorted(path.name for path in stream.iterdir()) == ["family.json", "speech_detector.onnx"]
    assert registry.info_in(stream, settings()) == registry.info_in(loop, settings())


def test_nemo_without_a_directory_is_refused_although_models_are_there(model_repository: Path) -> None:
    result = CliRunner().invoke(app, ["models", "--family", "nemo", "--model-repository", str(model_repository)])
    assert result.exit_code == 1
    assert "--family nemo needs --from DIR" in result.output


@pytest.mark.slow
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


def test_without_a_source_it_is_the_model_of_the_familys_wheel(tmp_path: Path) -> None:
    registry.build("moonshine", None, tmp_path, "fp32")
    assert registry.holds(tmp_path, "moonshine", "fp32")
    with pytest.raises(ValueError, match="--family transducer needs --from DIR"):
        registry.build("transducer", None, tmp_path)
    assert registry.holds(tmp_path, "moonshine")


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
    with pytest.raises(
        ValueError, match=rf"format is 1, this version of asrloop opens {registry.FORMAT}; .* `asrloop models --force`"
    ):
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
    (tmp_path / "family.json").write_text('{"family": "parakeet"}')
    with pytest.raises(ValueError, match="family is 'parakeet', known are moonshine, transducer, whisper"):
        registry.open_family(tmp_path, config.load())


@pytest.mark.parametrize("content", ["{", "[]", '{"family": "moonshine", "languages": null}'])
def test_a_damaged_description_is_named_with_the_way_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "family.json").write_text(content)
    with pytest.raises(ValueError, match=r"family.json .*; make the models again with `asrloop models --force`"):
        registry.info_in(tmp_path, Settings())


def test_builds_at_once_come_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    building, made = threading.Lock(), []

    def build(source: Path, destination: Path, precision: str, progress: object) -> None:
        assert building.acquire(blocking=False), "two at once"
        made.append(destination)
        (destination / "family.json").write_text('{"family": "transducer"}')
        building.release()

    module = SimpleNamespace(build=build)
    monkeypatch.setattr("asrloop.families.registry.importlib.import_module", lambda _: module)
    with ThreadPoolExecutor(4) as pool:
        for unless_there in [True] * 8 + [False] * 2:
            pool.submit(registry.build, "transducer", TINY_TDT, tmp_path, unless_there=unless_there)
    assert 1 <= len(made) <= 3
    assert registry.holds(tmp_path, "transducer")


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("decoder_loop", "asrloop models"),
        ("mine_loop", "asrloop models --as mine --family FAMILY"),
        ("any", "asrloop models"),
    ],
)
def test_a_fix_names_the_command_of_that_recognizer(folder: str, command: str, tmp_path: Path) -> None:
    directory = tmp_path / folder / "1"
    directory.mkdir(parents=True)
    (directory / "family.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=f"make the models again with `{command} --force`"):
        registry.info_in(directory, config.load())
