"""Word error rate of a transducer directory on synthetic speech that was not trained on, decoded as the server decodes it."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np
import soundfile
from numpy.typing import NDArray

from asrloop.export import nemo
from asrloop.families.transducer import Transducer
from asrloop.families.transducer_files import open_transducer
from asrloop_train import speech

SLOTS = 16


def transcribe(family: Transducer, utterances: Sequence[NDArray[np.float32]]) -> list[str]:
    """The text of each utterance, at most ``SLOTS`` of them side by side."""
    texts: list[str] = []
    for first in range(0, len(utterances), SLOTS):
        group = utterances[first : first + SLOTS]
        tokens: list[list[int]] = [[] for _ in group]
        for slot, samples in enumerate(group):
            family.admit(slot, family.encode(samples))
        running = list(range(len(group)))
        while running:
            emissions = family.step(running)
            for slot, emission in zip(running, emissions, strict=True):
                tokens[slot].extend(emission.tokens)
            running = [slot for slot, emission in zip(running, emissions, strict=True) if not emission.done]
        texts.extend(family.text(one) for one in tokens)
    return texts


def unseen_speech(count: int, seed: int, decibels: float = 20.0) -> tuple[list[str], list[NDArray[np.float32]]]:
    """New texts by voice variants and at rates that are in no training, with noise ``decibels`` below the speech."""
    generator = np.random.default_rng(seed)
    noise = speech.Noise(generator)
    utterances = speech.random_utterances(count, generator, unseen=True)
    clean = [(samples / 32768).astype(np.float32) for samples in speech.speak_all(utterances)]
    spoken = [noise.over(samples, decibels) for samples in clean]
    return [" ".join(utterance.words) for utterance in utterances], spoken


def write_samples(directory: Path, count: int = 40, seed: int = 2_000) -> None:
    """Write ``count`` unseen utterances as OGG files and their texts as ``manifest.jsonl``."""
    directory.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, (text, samples) in enumerate(zip(*unseen_speech(count, seed), strict=True)):
        entries.append({"file": f"{number:02}.ogg", "text": text})
        soundfile.write(directory / entries[-1]["file"], samples, speech.SAMPLE_RATE)
    lines = (json.dumps(entry) + "\n" for entry in entries)
    (directory / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")


def word_error_rate(directory: Path, count: int = 400, seed: int = 1_000) -> float:
    """Share of wrong words, 0 .. 1, of the model in ``directory`` on ``count`` unseen utterances."""
    references, spoken = unseen_speech(count, seed)
    with tempfile.TemporaryDirectory() as repository:
        nemo.build(directory, Path(repository))
        family = open_transducer(
            Path(repository) / "encoder" / "1",
            Path(repository) / "decoder" / "1",
            slots=SLOTS,
            encoder_threads=1,
            decoder_threads=1,
        )
        return float(jiwer.wer(references, transcribe(family, spoken)))
