"""The Moonshine family on the prepared models: rows keep to themselves, whatever happens beside them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import soxr
from numpy.typing import NDArray

from asrloop.engine.family import Emission, Ended
from asrloop.families.attention.rows import EncodedAudio
from asrloop.families.moonshine.decoding import Moonshine
from asrloop.families.offline import decode
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.onnx_files.sessions import Graph, Tensors, session_graph
from tests.conftest import BECKETT, words
from tests.families.conftest import check_batches

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def directory(model_repository: Path) -> Path:
    """The prepared model."""
    return model_repository / "decoder_loop" / "1"


@pytest.fixture(scope="module")
def family(directory: Path) -> Moonshine:
    return open_family(directory)


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


def open_family(directory: Path, **options: Any) -> Moonshine:
    return Moonshine(directory, slots=4, max_audio_seconds=12, **options)


def alone(family: Moonshine, samples: Array) -> list[int]:
    (decoded,) = decode(family, [family.encode(samples)])
    return decoded.tokens


def together(family: Moonshine, clips: list[Array], order: list[int]) -> dict[int, list[int]]:
    """Decode in the given order of arrival; a freed slot takes the next one, others going on beside it."""
    decoded = decode(family, (family.encode(clips[clip]) for clip in order), slots=4)
    return {clip: one.tokens for clip, one in zip(order, decoded, strict=True)}


def test_text_of_speech(family: Moonshine, beckett: Array) -> None:
    assert words(family.text(alone(family, beckett))) == BECKETT


@pytest.mark.parametrize("seed", range(3))
def test_company_does_not_change_a_row(family: Moonshine, clips: list[Array], seed: int) -> None:
    order = [int(clip) for clip in np.random.default_rng(seed).permutation(len(clips))]
    expected = {clip: alone(family, clips[clip]) for clip in order}
    assert together(family, clips, order) == expected


def test_batches_keep_to_themselves(family: Moonshine, clips: list[Array]) -> None:
    check_batches(family, clips, slots=4)


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


def test_a_cancelled_row_frees_its_slot_and_harms_no_other(family: Moonshine, clips: list[Array]) -> None:
    expected = alone(family, clips[0]), alone(family, clips[1])
    family.admit(0, family.encode(clips[3]))
    family.admit(1, family.encode(clips[0]))
    beside = [token for _ in range(3) for token in family.step([0, 1])[1].tokens]
    assert family.finish(0, ()) == Ended()
    done = False
    while not done:
        (emission,) = family.step([1])
        beside += emission.tokens
        done = emission.done
    family.finish(1, beside)
    assert (beside, alone(family, clips[1])) == expected


def test_words_are_spans_of_the_tokens(family: Moonshine, beckett: Array) -> None:
    tokens = alone(family, beckett)
    words = family.words(tokens)
    assert "".join(word.text for word in words) == family.text(tokens)
    assert [word.text.strip() for word in words] == family.text(tokens).split()
    assert [family.text(tokens[word.first : word.end]) for word in words] == family.text(tokens).split()
    assert family.words([]) == []


def test_graphs_run_elsewhere_give_the_same_tokens(family: Moonshine, directory: Path, clips: list[Array]) -> None:
    graphs = {name: remote_graph(directory / f"{name}.onnx") for name in ("encoder", "decoder")}
    remote = open_family(directory, graphs=graphs)
    order = list(range(len(clips)))
    assert together(remote, clips, order) == together(family, clips, order)


def remote_graph(path: Path) -> Graph:
    """Runs a graph and hands over copies, as a call to a server does."""
    run = session_graph(ort.InferenceSession(path))

    def call(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        assert all(value.flags.c_contiguous for value in inputs.values())
        return run({name: value.copy() for name, value in inputs.items()}, outputs)

    return call


def test_a_failed_step_leaves_every_row_where_it_was(directory: Path, clips: list[Array]) -> None:
    working = remote_graph(directory / "decoder.onnx")
    failures = iter([False, False, True, False, True])

    def failing(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        if next(failures, False):
            raise RuntimeError("the server went away")
        return working(inputs, outputs)

    family = open_family(directory, graphs={"decoder": failing})
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
    assert tokens == alone(open_family(directory), clips[0])


@pytest.mark.parametrize("samples", [1, 100, 700, 1700])
def test_very_short_audio_ends(family: Moonshine, beckett: Array, samples: int) -> None:
    limit = family.encode(beckett[:samples]).token_limit
    assert limit == 1
    assert len(alone(family, beckett[:samples])) <= limit


def test_token_limit_grows_with_the_audio_and_faster_after_the_first_second(family: Moonshine) -> None:
    noise = np.random.default_rng(0).standard_normal(16000, np.float32) * np.float32(0.1)
    assert family.encode(noise).token_limit == 7
    assert len(alone(family, noise)) <= 7
    assert family.encode(np.tile(noise, 3)).token_limit == 27


def emissions(family: Moonshine, encoded: EncodedAudio) -> list[Emission]:
    """All that an utterance gets in a slot of its own."""
    family.admit(0, encoded)
    found: list[Emission] = []
    while not found or not found[-1].done:
        found += family.step([0])
    return found


def test_only_a_transcript_that_would_go_on_is_said_to_be_cut(family: Moonshine, beckett: Array) -> None:
    encoded = family.encode(beckett)
    whole = emissions(family, encoded)
    assert not whole[-1].cut
    just_enough = emissions(family, dataclasses.replace(encoded, token_limit=len(whole) - 1))
    assert [one.tokens for one in just_enough] == [one.tokens for one in whole]
    assert not just_enough[-1].cut
    one_less = emissions(family, dataclasses.replace(encoded, token_limit=len(whole) - 2))
    assert [one.tokens for one in one_less[:-1]] == [one.tokens for one in whole[:-2]]
    assert one_less[-1] == Emission((), (), done=True, cut=True)


def test_speech_that_is_half_as_fast_again_is_not_cut(family: Moonshine, beckett: Array) -> None:
    # The part in which no pause gives the limit away.
    quick = np.asarray(soxr.resample(beckett[16_000:], 2.2, 1), np.float32)
    assert not emissions(family, family.encode(quick))[-1].cut


def test_tokens_come_with_their_probabilities(directory: Path, family: Moonshine, beckett: Array) -> None:
    encoded = family.encode(beckett[:48_000])
    found = emissions(family, encoded)
    log_probs = [value for one in found for value in one.log_probs]
    assert len(log_probs) == sum(len(one.tokens) for one in found)
    assert all(-10 < value <= 0 for value in log_probs)
    assert family.confidence(log_probs) > 0.7  # 0.9 on CPUs with VNNI
    assert family.confidence([]) == 0


def test_noise_over_speech_lowers_the_confidence(family: Moonshine, beckett: Array) -> None:
    noise = np.random.default_rng(1).standard_normal(beckett.size).astype(np.float32) * beckett.std()

    def confidence(samples: Array) -> float:
        found = emissions(family, family.encode(samples))
        return family.confidence([value for one in found for value in one.log_probs])

    assert confidence(beckett + noise) < confidence(beckett) - 0.15


def test_bad_audio_is_named_and_harms_no_row(family: Moonshine, clips: list[Array]) -> None:
    expected = alone(family, clips[0])
    family.admit(0, family.encode(clips[0]))
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


def test_windows_beyond_the_models_positions_are_refused(model_repository: Path) -> None:
    """Every request failed where one window was longer, also the short ones."""
    directory = model_repository / "decoder_loop" / "1"
    with pytest.raises(ValueError, match=r"windows.lengths of moonshine end at 99 s, the model at 98 s: lower them"):
        Moonshine(directory, slots=1, max_audio_seconds=99)
    longest = Moonshine(directory, slots=1, max_audio_seconds=98)
    encoded = longest.encode(np.zeros(98 * 16000, np.float32))
    assert longest.admit(0, encoded).tokens is not None
