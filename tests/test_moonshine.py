"""The Moonshine family on the prepared models: rows keep to themselves, whatever happens beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from asrloop.families.moonshine import Moonshine
from asrloop.vocabulary import Vocabulary

Array = NDArray[np.float32]
BECKETT = "Ever tried, ever failed, no matter, try again, fail again, fail better."


@pytest.fixture(scope="module")
def family(model_repository: Path) -> Moonshine:
    return open_family(model_repository)


@pytest.fixture(scope="module")
def clips(beckett: Array) -> list[Array]:
    """Pieces of speech of very different lengths."""
    cuts = [
        (0, 32000),
        (8000, 90000),
        (40000, 48000),
        (0, beckett.size),
        (60000, 130000),
        (100, 30000),
        (90000, 159000),
    ]
    return [beckett[begin:end] for begin, end in cuts]


def open_family(repository: Path, **options: Any) -> Moonshine:
    return Moonshine(repository / "encoder/1", repository / "decoder/1", slots=4, max_audio_seconds=12, **options)


def alone(family: Moonshine, samples: Array) -> list[int]:
    family.admit(0, family.encode(samples))
    tokens: list[int] = []
    while True:
        (emission,) = family.step([0])
        tokens += emission.tokens
        if emission.done:
            return tokens


def together(family: Moonshine, clips: list[Array], order: list[int]) -> dict[int, list[int]]:
    """Decode in the given order of arrival; a freed slot takes the next one, others going on beside it."""
    waiting, rows = list(order), dict[int, int]()
    tokens: dict[int, list[int]] = {clip: [] for clip in order}
    while waiting or rows:
        for slot in range(4):
            if slot not in rows and waiting:
                rows[slot] = waiting.pop(0)
                family.admit(slot, family.encode(clips[rows[slot]]))
        slots = sorted(rows)
        for slot, emission in zip(slots, family.step(slots), strict=True):
            tokens[rows[slot]] += emission.tokens
            if emission.done:
                del rows[slot]
    return tokens


def test_text_of_speech(family: Moonshine, beckett: Array) -> None:
    assert family.text(alone(family, beckett)) == BECKETT


@pytest.mark.parametrize("seed", range(3))
def test_company_does_not_change_a_row(family: Moonshine, clips: list[Array], seed: int) -> None:
    order = [int(clip) for clip in np.random.default_rng(seed).permutation(len(clips))]
    expected = {clip: alone(family, clips[clip]) for clip in order}
    assert together(family, clips, order) == expected


def test_rows_that_are_not_stepped_keep_their_place(family: Moonshine, clips: list[Array]) -> None:
    expected = alone(family, clips[0]), alone(family, clips[1])
    family.admit(0, family.encode(clips[0]))
    family.admit(2, family.encode(clips[1]))
    first: list[int] = []
    second: list[int] = []
    for _ in range(3):
        first += family.step([0])[0].tokens
    done = False
    while not done:
        (emission,) = family.step([2])
        second += emission.tokens
        done = emission.done
    done = False
    while not done:
        (emission,) = family.step([0])
        first += emission.tokens
        done = emission.done
    assert (first, second) == expected


def test_graphs_run_elsewhere_give_the_same_tokens(
    family: Moonshine, model_repository: Path, clips: list[Array]
) -> None:
    remote = open_family(model_repository, encoder_call=remote_graph(model_repository / "encoder/1/model.onnx"),
                         decoder_call=remote_graph(model_repository / "decoder/1/model.onnx"))  # fmt: skip
    order = list(range(len(clips)))
    assert together(remote, clips, order) == together(family, clips, order)


def remote_graph(path: Path) -> Any:
    """Runs a graph by name and hands over copies, as a call to a server does."""
    session = ort.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]

    def call(inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        assert all(value.flags.c_contiguous for value in inputs.values())
        return dict(zip(names, session.run(names, {name: value.copy() for name, value in inputs.items()}), strict=True))

    return call


def test_a_failed_step_leaves_every_row_where_it_was(model_repository: Path, clips: list[Array]) -> None:
    working = remote_graph(model_repository / "decoder/1/model.onnx")
    failures = iter([False, False, True, False, True])

    def failing(inputs: Mapping[str, NDArray[Any]]) -> Any:
        if next(failures, False):
            raise RuntimeError("the server went away")
        return working(inputs)

    family = open_family(model_repository, decoder_call=failing)
    family.admit(0, family.encode(clips[0]))
    tokens: list[int] = []
    errors = 0
    while True:
        try:
            (emission,) = family.step([0])
        except RuntimeError:
            errors += 1
            continue
        tokens += emission.tokens
        if emission.done:
            break
    assert errors == 2
    assert tokens == alone(open_family(model_repository), clips[0])


@pytest.mark.parametrize("samples", [1, 100, 700, 1700])
def test_very_short_audio_ends(family: Moonshine, beckett: Array, samples: int) -> None:
    assert len(alone(family, beckett[:samples])) <= 1


def test_token_limit_grows_with_the_audio(family: Moonshine) -> None:
    noise = np.random.default_rng(0).standard_normal(16000, np.float32) * np.float32(0.1)
    assert family.encode(noise).token_limit == 7
    assert len(alone(family, noise)) <= 7


def test_digital_silence_is_decoded(family: Moonshine) -> None:
    assert len(alone(family, np.zeros(16000, np.float32))) <= 7


def test_bad_audio_is_named_and_harms_no_row(family: Moonshine, clips: list[Array]) -> None:
    expected = alone(family, clips[0])
    family.admit(0, family.encode(clips[0]))
    poisoned = clips[1].copy()
    poisoned[5] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        family.encode(poisoned)
    with pytest.raises(ValueError, match="200000 samples of audio; between 1 and 192000"):
        family.encode(np.zeros(200_000, np.float32))
    assert alone(family, clips[0]) == expected


def test_vocabulary_survives_writing_and_hides_control_tokens(assets: Path, tmp_path: Path) -> None:
    pieces = Vocabulary.read_binary(assets / "tiny-en" / "tokenizer.bin")
    copy = tmp_path / "tokenizer.bin"
    copy.write_bytes(Vocabulary([*pieces, b"x" * 300]).to_bytes())
    assert list(Vocabulary.read_binary(copy)) == [*pieces, b"x" * 300]
    assert pieces.text([0, 1, 2]) == ""
    copy.write_bytes(copy.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"tokenizer\.bin ends within piece 32768"):
        Vocabulary.read_binary(copy)


def test_byte_pieces_of_hugging_face_make_characters(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(
        '{"model": {"vocab": {"<s>": 0, "\\u2581caf": 1, "<0xC3>": 2, "<0xA9>": 3}},'
        ' "added_tokens": [{"id": 0, "content": "<s>", "special": true}]}'
    )
    assert Vocabulary.read_hugging_face(path).text([0, 1, 2, 3]) == "café"
