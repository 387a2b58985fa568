"""Recognizers beside the default: their folders are made, listed and deleted, and names that cannot be are refused."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from asrloop.cli import app
from asrloop.recognizer import DEFAULT, name_of, recognizer
from asrloop.tritonserver import beside, checks, template
from asrloop.tritonserver.install import TritonError


def test_a_recognizer_has_three_models_of_its_own(tmp_path: Path) -> None:
    template.provide(tmp_path)
    assert beside.names_in(tmp_path) == []
    weights = beside.provide(tmp_path, "whisper-large")
    assert weights == tmp_path / "whisper-large_loop" / "1"
    assert (weights / "model.py").read_bytes() == (tmp_path / DEFAULT.loop / "1" / "model.py").read_bytes()
    for model in ("whisper-large", "whisper-large_file"):
        config = (tmp_path / model / "config.pbtxt").read_text(encoding="utf-8")
        assert '"whisper-large_loop"' in config
        assert DEFAULT.loop not in config
    assert all(any(version.iterdir()) for version in tmp_path.glob("*/1"))  # what copies files only keeps them
    assert beside.names_in(tmp_path) == ["whisper-large"]


def test_a_changed_file_is_kept(tmp_path: Path) -> None:
    changed = beside.provide(tmp_path, "mine").parent / "config.pbtxt"
    changed.write_text("# mine\n", encoding="utf-8")
    beside.provide(tmp_path, "mine")
    assert changed.read_text(encoding="utf-8") == "# mine\n"


def test_what_is_removed_leaves_nothing(tmp_path: Path) -> None:
    template.provide(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    beside.provide(tmp_path, "mine")
    (tmp_path / "asr_stream" / "1" / "mine.json").write_text("{}", encoding="utf-8")
    beside.remove(tmp_path, "mine")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["", "nobody", "decoder", "../mine"])
def test_the_default_and_nobody_cannot_be_removed(name: str, tmp_path: Path) -> None:
    template.provide(tmp_path)
    beside.provide(tmp_path, "mine")
    with pytest.raises(ValueError, match="there are mine"):
        beside.remove(tmp_path, name)
    assert (tmp_path / DEFAULT.loop / "config.pbtxt").is_file()


@pytest.mark.parametrize("name", ["Whisper", "a_b", "../mine", "1st", "a" * 41, "asr_file", "decoder", "a b", "é"])
def test_names_that_cannot_be_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no name of a recognizer"):
        beside.provide(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "whisper", "a-b.c"])
def test_a_loop_says_whose_it_is(name: str) -> None:
    assert name_of(recognizer(name).loop) == name


def test_other_models_may_be_called_alike(tmp_path: Path) -> None:
    template.provide(tmp_path)
    for name in ("My_loop", "encoder_loop", "_loop"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.pbtxt").touch()
    assert beside.names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["mine", "", "../mine"])
def test_what_cannot_be_made_leaves_nothing(name: str, tmp_path: Path) -> None:
    """A server does not start with a recognizer that has no weights."""
    repository = tmp_path / "repository"
    template.provide(repository)
    before = sorted(repository.rglob("*"))
    asked = ["models", "--as", name, "--family", "whisper", "--from", str(tmp_path / "nothing")]
    result = CliRunner().invoke(app, [*asked, "--model-repository", str(repository)])
    assert result.exit_code == 1
    assert sorted(repository.rglob("*")) == before


def test_what_was_there_stays_when_it_cannot_be_made_again(tmp_path: Path) -> None:
    template.provide(tmp_path)
    beside.provide(tmp_path, "mine")
    with pytest.raises(OSError, match="disk is full"), beside.made(tmp_path, "mine"):
        raise OSError("disk is full")
    assert beside.names_in(tmp_path) == ["mine"]


def test_missing_weights_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    template.provide(tmp_path)
    for loop in (DEFAULT.loop, "mine_loop"):
        (tmp_path / loop / "1").mkdir(parents=True, exist_ok=True)
        for file in ("encoder.onnx", "decoder.onnx"):
            (tmp_path / loop / "1" / file).touch()
    (beside.provide(tmp_path, "mine") / "decoder.onnx").unlink()
    with pytest.raises(
        TritonError, match=r"mine_loop/1/decoder.onnx missing; make them with `asrloop models --as mine "
    ):
        checks.checked_repositories(tmp_path)
