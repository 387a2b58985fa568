"""Greedy decoding gives what one call a frame gives: in any company, with any window, split or whole, and after a failure."""

import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from asrloop.engine.family import Emission, Word
from asrloop.families import offline
from asrloop.families.transducer.decoders import SplitDecoder, WholeDecoder
from asrloop.onnx_files.sessions import Graph, Tensors, session_graph
from tests.families.conftest import Samples, check_batches
from tests.families.transducer.conftest import SLOTS, Open
from tests.families.transducer.decoding import decode, decode_by_the_book

MODELS = ["small_tdt", "small_rnnt"]


@pytest.fixture(params=MODELS)
def directory(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture(scope="session")
def utterances(cuts: list[Samples]) -> list[Samples]:
    return cuts[:24]


@pytest.mark.parametrize("arrivals_per_step", [1, 16])
def test_in_company_as_alone(
    directory: Path, arrivals_per_step: int, open_directory: Open, utterances: list[Samples]
) -> None:
    family = open_directory(directory)
    expected = [decode_by_the_book(directory, family, samples) for samples in utterances]
    assert sum(len(one.tokens) for one in expected) > 50
    assert decode(family, utterances, SLOTS, arrivals_per_step) == expected


def test_drafts_change_nothing(directory: Path, open_directory: Open, utterances: list[Samples]) -> None:
    family = open_directory(directory)
    plain = decode(family, utterances, SLOTS)
    encoded = [family.encode(samples) for samples in utterances]
    assert offline.decode(family, encoded, drafts=[one.tokens for one in plain], slots=SLOTS) == plain


@pytest.mark.parametrize("split", [True, False])
def test_batches_keep_to_themselves(
    directory: Path, split: bool, open_directory: Open, utterances: list[Samples]
) -> None:
    check_batches(open_directory(directory, {"split": split}), utterances, slots=4)


@pytest.mark.parametrize("window", [1, 3, 50])
def test_any_window_gives_the_same(
    directory: Path, window: int, open_directory: Open, utterances: list[Samples]
) -> None:
    family = open_directory(directory, {"window": window})
    expected = [decode_by_the_book(directory, family, samples) for samples in utterances]
    assert decode(family, utterances, 4) == expected


@pytest.mark.parametrize("limit", [1, 2])
def test_tokens_at_one_frame_are_limited(
    directory: Path, limit: int, open_directory: Open, utterances: list[Samples]
) -> None:
    family = open_directory(directory, {"max_tokens_per_frame": limit})
    decoded = decode(family, utterances, SLOTS)
    assert decoded == [decode_by_the_book(directory, family, samples) for samples in utterances]
    assert any(one.times.count(time) == limit for one in decoded for time in one.times)
    assert all(one.times.count(time) <= limit for one in decoded for time in one.times)


def test_whole_graph_gives_the_same_as_its_parts(
    directory: Path, open_directory: Open, utterances: list[Samples]
) -> None:
    split, whole = open_directory(directory), open_directory(directory, {"split": False})
    assert isinstance(split.decoder, SplitDecoder)
    assert isinstance(whole.decoder, WholeDecoder)
    assert decode(whole, utterances, SLOTS) == decode(split, utterances, SLOTS)


def test_calls_elsewhere_give_the_same(directory: Path, open_directory: Open, utterances: list[Samples]) -> None:
    called = []

    def elsewhere(name: str) -> Graph:
        run = session_graph(ort.InferenceSession(directory / f"{name}-model.onnx", providers=["CPUExecutionProvider"]))

        def call(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
            called.append(name)
            return run(inputs, outputs)

        return call

    family = open_directory(directory, graphs={"encoder": elsewhere("encoder"), "decoder": elsewhere("decoder_joint")})
    assert decode(family, utterances, 4) == decode(open_directory(directory), utterances, 4)
    assert called.count("encoder") == len(utterances)
    assert "decoder_joint" in called


def test_a_finished_row_lets_go_of_its_frames(open_directory: Open, small_tdt: Path, utterances: list[Samples]) -> None:
    family = open_directory(small_tdt)
    encoded = family.encode(utterances[0])
    frames = weakref.ref(encoded.frames)
    family.admit(3, encoded)
    del encoded
    family.step([3])
    assert frames() is not None
    family.finish(3, ())
    assert frames() is None
    (emission,) = family.step([3])
    assert emission.done


def test_blanks_do_not_run_the_prediction_network(
    directory: Path, open_directory: Open, utterances: list[Samples]
) -> None:
    family = open_directory(directory)
    decoder = family.decoder
    assert isinstance(decoder, SplitDecoder)
    rows = []

    def counted(run: Graph) -> Graph:
        def call(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
            rows.append(len(inputs["targets"]))
            return run(inputs, outputs)

        return call

    decoder.prediction_graph = counted(decoder.prediction_graph)
    decoder.prediction_joint_graph = counted(decoder.prediction_joint_graph)
    tokens = sum(len(one.tokens) for one in decode(family, utterances, SLOTS))
    assert tokens - len(utterances) <= sum(rows) <= tokens  # nothing follows a token that ends its utterance


@pytest.mark.parametrize("split", [True, False])
def test_a_failing_step_changes_nothing(
    directory: Path, split: bool, open_directory: Open, utterances: list[Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = open_directory(directory, {"split": split})
    expected = decode(family, utterances, SLOTS)
    calls = iter(range(1_000_000))

    def unreliable(run: Graph) -> Graph:
        def call(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
            if next(calls) % 3 == 0:
                raise RuntimeError("out of memory")
            return run(inputs, outputs)

        return call

    for graph in ("prediction_graph", "joint_graph", "prediction_joint_graph") if split else ("decoder_joint_graph",):
        monkeypatch.setattr(family.decoder, graph, unreliable(getattr(family.decoder, graph)))
    step = family.step

    def step_until_it_works(slots: list[int]) -> list[Emission]:
        try:
            return step(slots)
        except RuntimeError:
            return step_until_it_works(slots)

    monkeypatch.setattr(family, "step", step_until_it_works)
    assert decode(family, utterances, SLOTS) == expected
    assert next(calls) > 30


@pytest.mark.parametrize("samples", [1, 159, 160, 400, 1_279, 1_281])
def test_the_shortest_audio_ends_well(directory: Path, samples: int, open_directory: Open) -> None:
    family = open_directory(directory)
    noise = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1
    decoded = decode(family, [noise], 1)[0]
    assert all(0 <= time <= samples / 16_000 for time in decoded.times)


def test_times_rise_and_stay_within_the_audio(directory: Path, open_directory: Open, utterances: list[Samples]) -> None:
    for samples, decoded in zip(utterances, decode(open_directory(directory), utterances, SLOTS), strict=True):
        assert decoded.times == sorted(decoded.times)
        assert all(0 <= time < len(samples) / 16_000 for time in decoded.times)


def test_text_has_spaces_between_words_only(open_directory: Open, small_tdt: Path) -> None:
    family = open_directory(small_tdt)
    pieces = ("\u2581Hel", "lo", "\u2581", ",", "\u2581world", "\u2581.", "<blk>")
    object.__setattr__(family.rules, "vocabulary", pieces)
    assert family.text([0, 1, 2, 3, 4, 5]) == "Hello, world."
    assert family.words([0, 1, 2, 3, 4, 5]) == [Word(0, 4, "Hello,"), Word(4, 6, " world.")]
    assert family.text([]) == ""
    assert family.text([2, 4]) == "world"
