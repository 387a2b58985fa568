"""The graphs of small random models agree with plain NumPy, whatever the shape: multilingual, 128 mels, fewer decoder layers."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from asrloop.engine.options import TRANSLATE, Options
from asrloop.families import registry
from asrloop.families.features.whisper_mel import whisper_mel
from asrloop.families.whisper.context import SILENT_FRAMES, context_samples, silent_audio
from asrloop.families.whisper.decoding import Whisper
from asrloop.onnx_files.graph_writer import GraphWriter
from tests.families.whisper.folders import MULTILINGUAL, TURBO, HuggingFaceFolder, Shape, random_tensors
from tests.families.whisper.reference import ReferenceWhisper, log_mel

Array = NDArray[np.float32]
ENGLISH = Shape(languages=(), hidden=48, encoder_heads=6, decoder_heads=4)
"""Heads of 12 components, which are widened."""


@pytest.mark.parametrize("bands", [80, 128])
def test_features_are_those_of_the_published_front_end(bands: int, beckett: Array) -> None:
    graph = GraphWriter()
    graph.input("audio", np.float32, [1, "samples"])
    graph.output(whisper_mel(graph, "audio", bands), np.float32, [1, bands, "times"])
    session = ort.InferenceSession(graph.model("mel").SerializeToString(), providers=["CPUExecutionProvider"])
    for samples in (beckett[:48_000], np.pad(beckett[8_000:24_000], (0, 32_000)), np.zeros(16_000, np.float32)):
        (found,) = session.run(None, {"audio": samples[None]})
        np.testing.assert_allclose(found[0], log_mel(samples, bands), atol=2e-4)


@pytest.mark.parametrize("shape", [MULTILINGUAL, TURBO, ENGLISH], ids=["multilingual", "turbo", "english"])
@pytest.mark.parametrize("again", [False, True])
def test_greedy_search_gives_the_tokens_of_plain_numpy(
    shape: Shape, again: bool, beckett: Array, tmp_path: Path
) -> None:
    tensors = random_tensors(shape)
    family = opened(HuggingFaceFolder(shape, tensors).write(tmp_path / "source"), tmp_path / "prepared")
    reference = ReferenceWhisper(tensors, shape.encoder_heads, shape.decoder_heads)
    samples = beckett[:20_000]
    states = heard(reference, samples, shape, again=again)
    found = tokens(family, samples, Options(language="de" if shape.languages else "en"), again=again)
    steer = ["<|de|>", "<|transcribe|>"] if shape.languages else []
    prefix = [shape.token(name) for name in ("<|startoftranscript|>", *steer, "<|notimestamps|>")]
    assert len(set(found)) >= 3
    assert found == greedy(reference, states, shape, prefix, len(found))


def test_a_language_is_found_out_and_a_task_and_a_prompt_are_told(beckett: Array, tmp_path: Path) -> None:
    shape = MULTILINGUAL
    tensors = random_tensors(shape, seed=2)
    family = opened(HuggingFaceFolder(shape, tensors).write(tmp_path / "source"), tmp_path / "prepared")
    reference = ReferenceWhisper(tensors, shape.encoder_heads, shape.decoder_heads)
    samples = beckett[30_000:50_000]
    states = heard(reference, samples, shape)
    languages = [shape.token(f"<|{code}|>") for code in shape.languages]
    sot = shape.token("<|startoftranscript|>")
    spoken = languages[int(reference.logits(states, [sot])[0][languages].argmax())]
    prompt = "the end <|endoftext|> of it, " * 3
    encoded = family.encode(samples)
    found = tokens_of(family, encoded, Options(task=TRANSLATE, prompt=prompt))
    before = family._tokens_of(f" {prompt.strip()}")
    assert family.text(before) == prompt.strip()
    assert max(before) < shape.token("<|endoftext|>")
    steer = [sot, spoken, shape.token("<|translate|>"), shape.token("<|notimestamps|>")]
    prefix = [shape.token("<|startofprev|>"), *before, *steer]
    assert found == greedy(reference, states, shape, prefix, len(found))
    assert family.finish(0, found).language == shape.languages[languages.index(spoken)]


def test_a_long_prompt_keeps_its_end(tmp_path: Path, beckett: Array) -> None:
    family = opened(
        HuggingFaceFolder(MULTILINGUAL, random_tensors(MULTILINGUAL)).write(tmp_path / "source"), tmp_path / "prepared"
    )
    ends = [
        tokens(family, beckett[:16_000], Options(language="en", prompt=f"{before} {'it is so. ' * 100}"))
        for before in ("", "something else " * 10_000)
    ]
    assert ends[0] == ends[1]


def opened(source: Path, directory: Path, precision: str = "fp32") -> Whisper:
    directory.mkdir()
    registry.build("whisper", source, directory, precision, lambda line: None)
    return Whisper(directory, slots=4, max_audio_seconds=20)


def heard(reference: ReferenceWhisper, samples: Array, shape: Shape, *, again: bool = False) -> Array:
    """States of the context that the family gives ``samples``."""
    states = reference.encode(
        np.pad(samples, (0, context_samples(samples.size, shape.frames, whole=again) - samples.size))
    )
    if again:
        return states
    silent = reference.encode(silent_audio(shape.frames))
    return np.concatenate([states, silent[len(states) : len(states) + SILENT_FRAMES]])


def greedy(reference: ReferenceWhisper, states: Array, shape: Shape, prefix: list[int], count: int) -> list[int]:
    """As many tokens as were found, and what comes behind where the limit of tokens did not end them."""
    eot = shape.token("<|endoftext|>")
    suppressed = [1, 2, 7, *range(eot + 1, shape.size)]
    return reference.greedy(states, prefix, eot, count, suppressed, [32, eot])


def tokens(family: Whisper, samples: Array, options: Options, *, again: bool = False) -> list[int]:
    return tokens_of(family, family.encode(samples, options, again=again), options)


def tokens_of(family: Whisper, encoded: object, options: Options) -> list[int]:
    found = [family.admit(0, encoded, options)]  # type: ignore[arg-type]
    while not found[-1].done:
        found += family.step([0])
    return [token for one in found for token in one.tokens]
