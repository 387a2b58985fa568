"""Synthetic speech: random texts of the limited vocabulary, spoken by espeak-ng, with added noise."""

import io
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE
from asrloop_train.vocabulary import DIGITS, WORDS

ACCENTS = ["en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc"]
TRAINING_VARIANTS = ["", "+m1", "+m2", "+m3", "+m5", "+m6", "+m7", "+f1", "+f2", "+f4", "+f5"]
UNSEEN_VARIANTS = ["+m4", "+f3"]
TRAINING_RATES = [115, 125, 130, 140, 150, 155, 165, 170, 180, 190]
UNSEEN_RATES = [120, 135, 145, 160, 175, 185]
"""Words a minute. Voice variants and rates of the unseen lists are never used in training."""


@dataclass(frozen=True)
class Sentence:
    """A text, voice and rate."""

    words: tuple[str, ...]
    voice: str
    rate: int
    pitch: int


def random_utterances(count: int, generator: np.random.Generator, *, unseen: bool, longest: int = 9) -> list[Sentence]:
    """Return ``count`` utterances of 1 to ``longest`` words: strings of digits, commands, or both mixed."""
    variants, rates = (UNSEEN_VARIANTS, UNSEEN_RATES) if unseen else (TRAINING_VARIANTS, TRAINING_RATES)
    utterances = []
    for _ in range(count):
        pool = DIGITS if generator.random() < 0.3 else WORDS
        words = tuple(str(word) for word in generator.choice(pool, generator.integers(1, longest + 1)))
        voice = str(generator.choice(ACCENTS)) + str(generator.choice(variants))
        utterances.append(Sentence(words, voice, int(generator.choice(rates)), int(generator.integers(30, 71))))
    return utterances


def speak(utterance: Sentence) -> NDArray[np.int16]:
    """Synthesise the utterance with espeak-ng: i16 [N], 16 kHz mono. Raises OSError without espeak-ng."""
    command = ["espeak-ng", "--stdout", "-v", utterance.voice, "-s", str(utterance.rate), "-p", str(utterance.pitch)]
    wave = subprocess.run([*command, " ".join(utterance.words)], capture_output=True, check=True).stdout
    samples, rate = soundfile.read(io.BytesIO(wave), dtype="float32")
    resampled = soxr.resample(samples, rate, SAMPLE_RATE)
    return np.asarray(np.clip(resampled, -1.0, 1.0) * 32767, np.int16)


def speak_all(utterances: Sequence[Sentence], threads: int = 2) -> list[NDArray[np.int16]]:
    """Synthesise all utterances, in order."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(speak, utterances))


class Noise:
    """Noise of several colours between white and brown, made once; each utterance gets a random part."""

    def __init__(self, generator: np.random.Generator, colours: int = 12, length: int = 1 << 20) -> None:
        frequencies = np.maximum(np.arange(length // 2 + 1), 1.0)
        self._generator = generator
        whites = (np.fft.rfft(generator.standard_normal(length)) for _ in range(colours))
        slopes = np.linspace(0.0, 1.0, colours)
        self._bank = [
            np.fft.irfft(white * frequencies**-slope, length).astype(np.float32)
            for white, slope in zip(whites, slopes, strict=True)
        ]

    def over(self, clean: NDArray[np.float32], decibels: float) -> NDArray[np.float32]:
        """Add noise of a random colour to ``clean`` at a signal-to-noise ratio of ``decibels``."""
        noise = self._bank[self._generator.integers(len(self._bank))]
        start = self._generator.integers(0, len(noise) - len(clean))
        cut = noise[start : start + len(clean)]
        gain = np.sqrt(np.mean(clean**2) / np.mean(cut**2) / 10 ** (decibels / 10))
        return clean + np.float32(gain) * cut

    def disturb(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return a training variation of ``samples``: speed, silence around, loudness, and noise of 8 to 40 dB."""
        clean = (samples / 32768).astype(np.float32)
        grid = np.arange(0.0, len(clean) - 1, self._generator.uniform(0.92, 1.08))
        other_speed = np.interp(grid, np.arange(len(clean)), clean).astype(np.float32)
        placed = np.pad(other_speed, tuple(self._generator.integers(0, 8000, 2)))
        loudness = np.float32(self._generator.uniform(0.2, 1.0))
        return self.over(placed, self._generator.uniform(8.0, 40.0)) * loudness
