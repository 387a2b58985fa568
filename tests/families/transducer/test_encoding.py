"""An utterance in company is encoded by one thread, one that is alone by all; a large encoder is opened once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from asrloop.families import registry
from asrloop.families.transducer import opening
from asrloop.families.transducer.greedy import Transducer
from asrloop.onnx_files.sessions import Graph, Tensors, open_graph
from tests.families.conftest import Samples

THREADS = 3


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The graphs that were run, each with its number of threads."""
    found: list[tuple[str, int]] = []

    def watched(path: Path, *, threads: int, memory_arena: bool = True) -> Graph:
        run = open_graph(path, threads=threads, memory_arena=memory_arena)

        def call(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
            found.append((path.stem, threads))
            return run(inputs, outputs)

        return call

    monkeypatch.setattr(opening, "open_graph", watched)
    return found


@pytest.fixture
def directory(small_tdt: Path, tmp_path: Path) -> Path:
    """A prepared model whose encoder has its weights beside it."""
    source = tmp_path / "source"
    source.mkdir()
    for file in small_tdt.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    onnx.save(
        onnx.load(source / "encoder-model.onnx"),
        source / "encoder-model.onnx",
        save_as_external_data=True,
        location="w",
    )
    registry.build("transducer", source, tmp_path / "prepared")
    return tmp_path / "prepared"


def opened(directory: Path) -> Transducer:
    return opening.open_transducer(
        directory, slots=2, max_audio_seconds=10, encoder_threads=THREADS, decoder_threads=THREADS
    )


def test_one_thread_each_in_company_and_all_alone(
    directory: Path, ran: list[tuple[str, int]], cuts: list[Samples]
) -> None:
    family = opened(directory)
    assert family.info.encodes_side_by_side
    ran.clear()
    in_company = family.encode(cuts[0])
    assert ran == [("mel", 1), ("encoder", 1), ("frames", 1)]
    ran.clear()
    alone = family.encode(cuts[0], alone=True)
    assert ran == [("mel", 1), ("encoder", THREADS), ("frames", 1)]
    np.testing.assert_allclose(alone.frames, in_company.frames, atol=1e-5)


@pytest.mark.parametrize("names_of_files_are_kept", [True, False])
def test_a_large_encoder_is_opened_once_with_all_threads(
    directory: Path,
    ran: list[tuple[str, int]],
    cuts: list[Samples],
    names_of_files_are_kept: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        opening, "OPENED_TWICE_BYTES", (directory / "encoder.onnx").stat().st_size
    )  # without the weights
    if not names_of_files_are_kept:
        description = (directory / "family.json").read_text()
        (directory / "family.json").write_text(description.replace("encoder_files", "of_an_older_version"))
    family = opened(directory)
    assert not family.info.encodes_side_by_side
    for alone in (False, True):
        ran.clear()
        family.encode(cuts[0], alone=alone)
        assert ran == [("mel", 1), ("encoder", THREADS), ("frames", 1)]


def test_an_encoder_elsewhere_encodes_side_by_side(directory: Path, ran: list[tuple[str, int]]) -> None:
    graphs = {"encoder": open_graph(directory / "encoder.onnx", threads=1)}
    family = opening.open_transducer(
        directory, slots=2, max_audio_seconds=10, encoder_threads=THREADS, decoder_threads=1, graphs=graphs
    )
    assert family.info.encodes_side_by_side
