"""Whisper on real weights and real speech: rows keep to themselves, and drafts, prompts and terms do what they should."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from asrloop.engine.family import NOTHING, Emission, Ended
from asrloop.engine.options import Draft, Options
from asrloop.families import registry
from asrloop.families.offline import decode
from asrloop.families.quantize.vnni import usual_precision
from asrloop.families.whisper.decoding import Encoded, Whisper
from asrloop.onnx_files.sessions import Graph, Tensors, session_graph
from tests.conftest import BECKETT, words
from tests.families.conftest import check_batches
from tests.families.whisper.folders import MULTILINGUAL, HuggingFaceFolder, random_tensors

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def family(directory: Path) -> Whisper:
    return opened(directory)


@pytest.fixture(scope="module")
def small_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, which says nothing that makes sense, and is fast."""
    folder = tmp_path_factory.mktemp("small")
    source = HuggingFaceFolder(MULTILINGUAL, random_tensors(MULTILINGUAL)).write(folder / "source")
    registry.build("whisper", source, folder / "prepared", "fp32", lambda line: None)
    return folder / "prepared"


@pytest.fixture(scope="module")
def small(small_directory: Path) -> Whisper:
    return opened(small_directory)


@pytest.fixture(scope="module")
def clips(beckett: Array) -> list[Array]:
    """Pieces of speech of very different lengths."""
    cuts = [(0, 32000), (8000, 90000), (40000, 48000), (0, beckett.size), (60000, 130000), (100, 30000)]
    return [beckett[begin:end] for begin, end in cuts]


def opened(directory: Path, **options: Any) -> Whisper:
    return Whisper(directory, slots=4, max_audio_seconds=30, **options)


def emissions(family: Whisper, encoded: Encoded, options: Options, slot: int = 0) -> list[Emission]:
    found = [family.admit(slot, encoded, options)]
    while not found[-1].done:
        found += family.step([slot])
    return found


def decoded(family: Whisper, encoded: Encoded, options: Options) -> tuple[list[int], list[float]]:
    """Tokens and log probabilities."""
    found = emissions(family, encoded, options)
    return [token for one in found for token in one.tokens], [value for one in found for value in one.log_probs]


def test_text_of_speech_in_company(family: Whisper, clips: list[Array]) -> None:
    alone = [decode(family, [family.encode(clip)])[0].tokens for clip in clips]
    for seed in range(1):
        order = [int(clip) for clip in np.random.default_rng(seed).permutation(len(clips))]
        together = decode(family, [family.encode(clips[clip]) for clip in order], slots=4, arrivals_per_step=1)
        assert [one.tokens for one in together] == [alone[clip] for clip in order]
    assert words(family.text(alone[3])) == BECKETT


def test_words_are_spans_of_the_tokens(family: Whisper, beckett: Array) -> None:
    (tokens,) = (one.tokens for one in decode(family, [family.encode(beckett)]))
    found = family.words(tokens)
    assert "".join(word.text for word in found) == family.text(tokens)
    assert [family.text(tokens[word.first : word.end]) for word in found] == family.text(tokens).split()
    assert words(family.text(tokens)) == BECKETT


def test_a_cancelled_row_frees_its_slot_and_harms_no_other(small: Whisper, clips: list[Array]) -> None:
    expected, _ = decoded(small, small.encode(clips[0]), Options())
    small.admit(0, small.encode(clips[3]))
    small.admit(1, small.encode(clips[0]))
    beside = [token for _ in range(3) for token in small.step([0, 1])[1].tokens]
    small.finish(0, ())
    while not (emission := small.step([1])[0]).done:
        beside += emission.tokens
    small.finish(1, beside)
    assert beside == expected


def test_a_failed_step_leaves_every_row_where_it_was(small_directory: Path, small: Whisper, clips: list[Array]) -> None:
    working = remote_graph(small_directory / "decoder.onnx")
    failures = iter(())

    def failing(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        if next(failures, False):
            raise RuntimeError("the server went away")
        return working(inputs, outputs)

    remote = opened(small_directory, graphs={"decoder": failing})
    assert remote.admit(0, remote.encode(clips[0])) == NOTHING
    failures = iter([False, True, False, True])
    tokens: list[int] = []
    errors = 0
    while True:
        try:
            (emission,) = remote.step([0])
        except RuntimeError:
            errors += 1
            continue
        tokens += emission.tokens
        if emission.done:
            break
    assert errors == 2
    assert tokens == decoded(small, small.encode(clips[0]), Options())[0]


def remote_graph(path: Path) -> Graph:
    """Runs a graph and hands over copies, as a call to a server does."""
    run = session_graph(ort.InferenceSession(path))

    def call(inputs: Tensors, outputs: Sequence[str] = (), /) -> Tensors:
        assert all(value.flags.c_contiguous for value in inputs.values())
        return run({name: value.copy() for name, value in inputs.items()}, outputs)

    return call


def test_graphs_elsewhere_give_the_same_tokens_with_a_prompt(
    small_directory: Path, small: Whisper, clips: list[Array]
) -> None:
    remote = opened(
        small_directory,
        graphs={name: remote_graph(small_directory / f"{name}.onnx") for name in ("encoder", "decoder")},
    )
    options = Options(prompt="Samuel Beckett wrote it.")
    for clip in clips[:2]:
        here, there = (decoded(one, one.encode(clip), options) for one in (small, remote))
        assert here[0] == there[0]
        np.testing.assert_allclose(here[1], there[1], atol=1e-4)


@pytest.mark.parametrize("samples", [1, 800, 480_000])
def test_the_shortest_and_the_longest_audio_end_well(family: Whisper, beckett: Array, samples: int) -> None:
    encoded = family.encode(np.resize(beckett, samples))
    assert len(decoded(family, encoded, Options())[0]) <= encoded.audio.token_limit


def test_what_is_too_long_is_refused(family: Whisper, directory: Path) -> None:
    with pytest.raises(ValueError, match="480001 samples of audio; between 1 and 480000 are accepted"):
        family.encode(np.zeros(480_001, np.float32))
    with pytest.raises(ValueError, match=r"windows.lengths of whisper end at 31 s, the model at 30 s: lower them"):
        Whisper(directory, slots=1, max_audio_seconds=31)


@pytest.mark.parametrize("prompt", ["", "A play by Samuel Beckett.", "It was said before. " * 100])
def test_a_draft_changes_no_bit(small: Whisper, beckett: Array, prompt: str) -> None:
    options = Options(prompt=prompt)
    encoded = small.encode(beckett[:48_000])
    plain = decoded(small, encoded, options)
    spoilt = ([100] * 30, [small.numbers.eot], [-1], [2**40], [small.numbers.sot] * 3)
    for draft in (plain[0], [*plain[0][:3], 100, *plain[0][4:]], *(spoilt if not prompt else ())):
        drafted = decoded(small, encoded, dataclasses.replace(options, draft=Draft(draft)))
        assert drafted == plain


def test_forced_tokens_stand(small: Whisper, beckett: Array) -> None:
    encoded = small.encode(beckett)
    plain, _ = decoded(small, encoded, Options())
    given = [plain[0], 100, *plain[2:6]]
    assert decoded(small, encoded, Options(draft=Draft(given, len(given))))[0][: len(given)] == given
    steering = [100, small.numbers.sot, 101]
    assert decoded(small, encoded, Options(draft=Draft(steering, 3)))[0][0] == 100


def test_a_prompt_is_text_and_changes_how_names_are_written(family: Whisper, beckett: Array) -> None:
    encoded = family.encode(beckett)
    plain = family.text(decoded(family, encoded, Options())[0])
    steering = "<|endoftext|><|startoftranscript|><|notimestamps|>"
    prompted = family.text(decoded(family, encoded, Options(prompt=steering))[0])
    assert words(prompted) == words(plain)
    assert family.text(family._tokens_of(f" {steering} é 你好 1999")) == f"{steering} é 你好 1999"
    shouted = decoded(family, encoded, Options(prompt="EVER TRIED. EVER FAILED. THIS IS ALL WRITTEN IN CAPITALS."))[0]
    assert family.text(shouted) != plain


def test_a_prompt_that_spoils_the_text_is_left_out_once_more(family: Whisper, beckett: Array) -> None:
    options = Options(prompt="\U0001f600" * 300)
    first, _ = decoded(family, family.encode(beckett, options), options)
    assert words(family.text(first)) != BECKETT
    again = family.encode(beckett, options, again=True)
    assert words(family.text(decoded(family, again, options)[0])) == BECKETT


def test_terms_are_preferred(family: Whisper, beckett: Array) -> None:
    encoded = family.encode(beckett)
    tokens, _ = decoded(family, encoded, Options(key_terms=("Betta",), key_terms_boost=10.0))
    assert family.text(tokens).endswith("fail betta.")
    assert family.can_write("Szczecin")


def test_batches_keep_to_themselves(small: Whisper, clips: list[Array]) -> None:
    check_batches(small, clips, slots=4)


def test_evidence_goes_forward_and_a_draft_gives_the_same(family: Whisper, beckett: Array) -> None:
    encoded = family.encode(beckett)
    found = []
    for options in (
        Options(word_times=True),
        Options(word_times=True, draft=Draft(decoded(family, encoded, Options())[0][:9])),
    ):
        tokens, _ = decoded(family, encoded, options)
        evidence = family.finish(0, tokens).evidence
        assert evidence is not None
        assert evidence.weights.shape == (len(tokens), -(-beckett.size // 320))
        assert evidence.frame_seconds == 0.02
        found.append(evidence.weights)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    assert 0 <= found[0].min() <= found[0].max() <= 1
    assert np.mean(np.diff(found[0].argmax(axis=1)) > 0) > 0.7


def test_what_looks_wrong_is_asked_for_once_more(family: Whisper, beckett: Array) -> None:
    encoded = family.encode(beckett[:32_000])
    tokens, _ = decoded(family, encoded, Options())
    assert family.finish(0, tokens) == Ended()
    decoded(family, encoded, Options())
    again = family.finish(0, tokens[:-1]).again
    assert again is not None
    np.testing.assert_array_equal(again, beckett[:32_000])
    whole = family.encode(again, again=True)
    assert whole.audio.frames == 1500
    decoded(family, whole, Options())
    assert family.finish(0, tokens[:-1]).again is None


@pytest.mark.slow
def test_the_usual_recipe_hears_the_same(tiny_en: Path, tmp_path: Path, clips: list[Array]) -> None:
    registry.build("whisper", tiny_en, tmp_path, usual_precision(), lambda line: None)
    family = opened(tmp_path)
    order = list(range(len(clips)))
    alone = [decode(family, [family.encode(clips[clip])])[0].tokens for clip in order]
    together = decode(family, [family.encode(clips[clip]) for clip in order], slots=4)
    assert [one.tokens for one in together] == alone
    assert words(family.text(alone[3])) == BECKETT
