"""Each baseline model gets its own files, new ones when the source changes, and the vendor's loop hears speech."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from asrloop_bench import vendor as vendors
from asrloop_bench.vendor import open_loop
from numpy.typing import NDArray

from asrloop.families.moonshine.decoding import VOCABULARY
from asrloop.families.text.vocabulary import Vocabulary
from tests.conftest import BECKETT, words


@pytest.fixture(params=["links", "copies"])
def folders(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A prepared model and a Triton model's folder, on a file system with hard links or without."""
    if request.param == "copies":

        def refuse(source: Path, target: Path) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
    prepared, folder = tmp_path / "prepared", tmp_path / "folder"
    prepared.mkdir()
    folder.mkdir()
    (prepared / "family.json").write_text("first")
    (prepared / "decoder.onnx").write_text("graph")
    (prepared / "model.py").write_text("the project's code")
    (folder / "model.py").write_text("the baseline's code")
    return prepared, folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_folder_mirrors_the_prepared_model_and_keeps_its_code(folders: tuple[Path, Path]) -> None:
    prepared, folder = folders
    mine = {"model.py": "the baseline's code"}
    vendors.mirror(prepared, folder)
    vendors.mirror(prepared, folder)
    assert contents(folder) == {"family.json": "first", "decoder.onnx": "graph", **mine}
    (prepared / "new").write_text("second and longer")
    (prepared / "new").replace(prepared / "family.json")
    (prepared / "decoder.onnx").unlink()
    vendors.mirror(prepared, folder)
    assert contents(folder) == {"family.json": "second and longer", **mine}


def test_the_vendors_loop_hears_beckett(beckett: NDArray[np.float32]) -> None:
    vendors.prepare()
    tokens = open_loop(vendors.VENDOR_LOOP, threads=1).tokens(beckett)
    assert words(Vocabulary.read_binary(vendors.VENDOR_LOOP / VOCABULARY).text(tokens)) == BECKETT
