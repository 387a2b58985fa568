"""Word error rate of a transducer directory on synthetic speech that was not trained on, decoded as the server decodes it."""

import json
import tempfile
from pathlib import Path

import jiwer
import numpy as np
import soundfile
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop.families import registry
from asrloop.families.offline import decode
from asrloop.families.transducer.opening import open_transducer
from asrloop_train import speech

SLOTS = 16


def unseen_speech(count: int, seed: int, decibels: float = 20.0) -> tuple[list[str], list[NDArray[np.float32]]]:
    """Yield new texts, with voice variants and rates never used in training, and noise ``decibels`` below the speech."""
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
        soundfile.write(directory / entries[-1]["file"], samples, SAMPLE_RATE)
    lines = (json.dumps(entry) + "\n" for entry in entries)
    (directory / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")


def word_error_rate(directory: Path, count: int = 400, seed: int = 1_000) -> float:
    """Return the word error rate, 0 .. 1, of the model in ``directory`` on ``count`` unseen utterances."""
    references, spoken = unseen_speech(count, seed)
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch)
        registry.build("transducer", directory, prepared)
        family = open_transducer(prepared, slots=SLOTS, max_audio_seconds=60, encoder_threads=1, decoder_threads=1)
        decoded = decode(family, map(family.encode, spoken), slots=SLOTS)
        return float(jiwer.wer(references, [family.text(one.tokens) for one in decoded]))
