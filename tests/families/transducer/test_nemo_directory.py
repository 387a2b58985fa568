"""A directory that cannot be served gets an error that names the file, and leaves no half repository behind."""

import json
import shutil
from pathlib import Path

import onnx
import pytest
from asrloop_train import random_transducer

from asrloop.families import registry
from asrloop.families.transducer.nemo_directory import NemoDirectoryError
from tests.families.conftest import Samples
from tests.families.transducer.conftest import SLOTS, Open
from tests.families.transducer.decoding import decode


@pytest.fixture
def directory(small_tdt: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_tdt, tmp_path / "model"))


def build_fails(directory: Path, *, naming: str) -> None:
    prepared = directory.parent / "prepared"
    with pytest.raises(NemoDirectoryError, match=naming):
        registry.build("transducer", directory, prepared)
    assert not list(prepared.iterdir())


@pytest.mark.parametrize("name", ["encoder-model.onnx", "decoder_joint-model.onnx", "vocab.txt"])
def test_a_missing_file(directory: Path, name: str) -> None:
    (directory / name).unlink()
    build_fails(directory, naming=rf"{name} is missing; the directory needs")


def test_no_directory_at_all(tmp_path: Path) -> None:
    build_fails(tmp_path / "nowhere", naming=r"nowhere/encoder-model\.onnx is missing")


@pytest.mark.parametrize("name", ["encoder-model.onnx", "decoder_joint-model.onnx"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"])
def test_a_file_that_is_no_model(directory: Path, name: str, content: bytes) -> None:
    (directory / name).write_bytes(content)
    build_fails(directory, naming=name)


def test_a_truncated_model(directory: Path) -> None:
    path = directory / "encoder-model.onnx"
    path.write_bytes(path.read_bytes()[:5_000])
    build_fails(directory, naming=r"encoder-model\.onnx")


def test_the_decoder_of_another_model(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    random_transducer.write(other, random_transducer.Sizes(48, 2, 24, 16, 40, 5))
    shutil.copy(other / "decoder_joint-model.onnx", directory)
    build_fails(directory, naming=r"decoder_joint-model\.onnx: axis 1 of encoder_outputs is 48, but 32 was expected")


def test_the_encoder_in_the_decoders_place(directory: Path) -> None:
    shutil.copy(directory / "encoder-model.onnx", directory / "decoder_joint-model.onnx")
    build_fails(directory, naming=r"decoder_joint-model\.onnx: no tensor encoder_outputs")


def test_the_vocabulary_of_another_model(directory: Path) -> None:
    pieces = [f"x{index} {index}" for index in range(60)]
    (directory / "vocab.txt").write_text("\n".join([*pieces, "<blk> 60"]) + "\n")
    build_fails(directory, naming=r"decoder_joint-model\.onnx does not run on .* with the blank 60 of vocab\.txt")


def test_the_vocabulary_of_another_kind_of_model(directory: Path) -> None:
    pieces = [f"x{index} {index}" for index in range(39)]
    (directory / "vocab.txt").write_text("\n".join([*pieces, "<blk> 39"]) + "\n")
    (directory / "config.json").write_text('{"model_type": "nemo-conformer-rnnt"}')
    build_fails(directory, naming=r"gives 45 scores, vocab\.txt has 40 pieces and model_type is 'nemo-conformer-rnnt'")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("one 0\ntwo\n", "line 2 is"),
        ("one 0\ntwo 2\n<blk> 3\n", "without a gap"),
        ("one 0\ntwo 1\n", "<blk> must be"),
        ("", "<blk> must be"),
    ],
)
def test_a_broken_vocabulary(directory: Path, content: str, says: str) -> None:
    (directory / "vocab.txt").write_text(content)
    build_fails(directory, naming=rf"vocab\.txt: .*{says}")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{", "Expecting"),
        ("[]", "must be a JSON object"),
        ('{"model_type": "nemo-conformer-ctc"}', "model_type is 'nemo-conformer-ctc'"),
        ('{"model_type": "nemo-conformer-rnnt"}', "RNN-T has as many of both"),
        ('{"subsampling_factor": 0}', "subsampling_factor is 0"),
        ('{"features_size": 80}', "axis 1 of audio_signal is 128, but 80"),
    ],
)
def test_a_wrong_config(directory: Path, config: str, says: str) -> None:
    (directory / "config.json").write_text(config)
    build_fails(directory, naming=says)


def test_weights_beside_the_encoder(
    directory: Path, open_directory: Open, cuts: list[Samples], small_tdt: Path
) -> None:
    model = onnx.load(directory / "encoder-model.onnx")
    onnx.save(model, directory / "encoder-model.onnx", save_as_external_data=True, location="encoder-model.onnx.data")
    expected = decode(open_directory(small_tdt), cuts[:4], SLOTS)
    assert decode(open_directory(directory), cuts[:4], SLOTS) == expected


def test_missing_weights_beside_the_encoder(directory: Path) -> None:
    model = onnx.load(directory / "encoder-model.onnx")
    onnx.save(model, directory / "encoder-model.onnx", save_as_external_data=True, location="encoder-model.onnx.data")
    (directory / "encoder-model.onnx.data").unlink()
    build_fails(directory, naming=r"encoder-model\.onnx\.data is missing")


def test_weights_elsewhere(directory: Path) -> None:
    (directory / "weights").mkdir()
    model = onnx.load(directory / "encoder-model.onnx")
    onnx.save(model, directory / "encoder-model.onnx", save_as_external_data=True, location="weights/encoder.data")
    build_fails(directory, naming=r"weights/encoder\.data is outside")


def test_without_config_the_files_decide(directory: Path, tmp_path: Path) -> None:
    (directory / "config.json").unlink()
    registry.build("transducer", directory, tmp_path / "prepared")
    settings = json.loads((tmp_path / "prepared" / "family.json").read_text())
    assert (settings["durations"], settings["seconds_per_frame"], settings["state_shapes"]) == (
        5,
        0.08,
        [[2, 24], [2, 24]],
    )


def test_a_second_build_replaces_the_first(directory: Path, small_rnnt: Path, tmp_path: Path) -> None:
    registry.build("transducer", directory, tmp_path / "prepared")
    registry.build("transducer", small_rnnt, tmp_path / "prepared")
    settings = json.loads((tmp_path / "prepared" / "family.json").read_text())
    assert (settings["durations"], settings["state_shapes"]) == (0, [[1, 24], [1, 24]])
