"""Silence, noise and hum are no speech at any level and length; quiet, short and clicked-over speech is."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from asrloop_client.cli.health import voice
from numpy.typing import NDArray

from asrloop.audio import resampled
from asrloop.config import Settings
from asrloop.speech.detector import DETECTOR, NOTHING, Heard, SpeechDetector
from asrloop.speech.gate import FIRST, SpeechGate
from asrloop.wheels import MOONSHINE_SPEECH
from tests.conftest import ROOT

Samples = NDArray[np.float32]
RATE = 16_000
THRESHOLD = Settings().audio.speech_threshold


@pytest.fixture(scope="module")
def detector(model_repository: Path) -> SpeechDetector:
    return SpeechDetector(model_repository / "decoder_loop" / "1" / DETECTOR)


@pytest.fixture(scope="module")
def gate(detector: SpeechDetector) -> SpeechGate:
    return SpeechGate(detector, THRESHOLD)


@pytest.fixture(scope="module")
def recordings(assets: Path) -> list[Samples]:
    tiny = sorted((ROOT / "training" / "tiny-tdt" / "speech").glob("*.ogg"))
    return [read(path) for path in [*(assets / name for name in MOONSHINE_SPEECH), *tiny]]


def read(path: Path) -> Samples:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resampled(np.ascontiguousarray(samples.mean(axis=1)), rate)


def at_level(samples: NDArray[np.floating], dbfs: float) -> Samples:
    """``samples`` with that root mean square."""
    return np.clip(samples / np.sqrt(np.square(samples).mean()) * 10 ** (dbfs / 20), -1, 1).astype(np.float32)


def noise(count: int, power: float, seed: int) -> NDArray[np.floating]:
    """Noise whose power falls with the frequency to the ``power``: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(max(count, 16)))
    return np.fft.irfft(spectrum / np.maximum(np.arange(spectrum.size), 1) ** (power / 2))[:count]


def hum(count: int, hertz: float, seed: int) -> NDArray[np.floating]:
    """The mains and its harmonics."""
    times, random = np.arange(count) / RATE, np.random.default_rng(seed)
    phases, falls = random.uniform(0, 2 * np.pi, 20), random.uniform(0.5, 2, 20)
    return sum(np.sin(2 * np.pi * hertz * n * times + phases[n]) / n ** falls[n] for n in range(1, 20))


def clicks(count: int, every: float, magnitude: float) -> Samples:
    samples = np.zeros(count, np.float32)
    samples[:: int(every * RATE)] = magnitude
    return samples


def not_speech() -> Iterator[tuple[str, Samples]]:
    """More than 60 recordings of nothing."""
    for seconds in (0.1, 0.3, 1, 3, 10, 30):
        count = int(seconds * RATE)
        yield f"zeros, {seconds} s", np.zeros(count, np.float32)
        yield f"DC, {seconds} s", np.full(count, 0.3, np.float32)
        for name, power in (("white", 0), ("pink", 1), ("brown", 2)):
            for dbfs in (-80, -60, -40, -20):
                yield f"{name} noise, {dbfs} dB, {seconds} s", at_level(noise(count, power, int(count - dbfs)), dbfs)
        for hertz in (50, 60):
            for dbfs in (-60, -20):
                yield f"{hertz} Hz hum, {dbfs} dB, {seconds} s", at_level(hum(count, hertz, count), dbfs)
        yield f"loud clicks, {seconds} s", clicks(count, 1, 0.9)
        yield f"quick clicks, {seconds} s", clicks(count, 0.05, 0.1)


def test_silence_noise_and_hum_are_no_speech(gate: SpeechGate) -> None:
    assert [name for name, samples in not_speech() if gate(samples)] == []


@pytest.mark.parametrize("dbfs", [-60, -50, -30, -10])
def test_speech_is_speech_at_any_level(gate: SpeechGate, recordings: list[Samples], dbfs: float) -> None:
    assert [n for n, samples in enumerate(recordings) if not gate(at_level(samples, dbfs))] == []


def test_speech_behind_an_offset_or_a_long_silence_is_found(gate: SpeechGate, recordings: list[Samples]) -> None:
    for samples in recordings[:10]:
        assert gate(at_level(samples, -40) + np.float32(0.3))
        assert gate(np.concatenate([np.zeros(20 * RATE, np.float32), at_level(samples[: 2 * RATE], -30)]))


def test_a_loud_click_does_not_hide_quiet_speech(gate: SpeechGate, recordings: list[Samples]) -> None:
    for n, samples in enumerate(recordings):
        clicked = at_level(samples, -40)
        clicked[clicked.size // 3] = 0.9
        assert gate(clicked), n


def test_the_voice_of_the_clients_health_check_is_speech(gate: SpeechGate) -> None:
    assert gate(voice())


def test_what_is_found_at_once_is_not_looked_for_again(
    gate: SpeechGate, detector: SpeechDetector, beckett: Samples
) -> None:
    """The price of a short utterance: one run over eight windows, about 0.3 ms."""
    windows = []

    def counting(samples: Samples, before: Heard) -> tuple[Samples, Heard]:
        windows.append(samples.size // 512)
        return detector(samples, before)

    assert SpeechGate(counting, THRESHOLD)(beckett)
    assert windows == [FIRST]


def saying(probability: Callable[[Samples], float]) -> SpeechGate:
    """A gate whose detector says the same of all windows that it gets at once."""

    def detector(samples: Samples, before: Heard) -> tuple[Samples, Heard]:
        return np.full(-(-samples.size // 512), probability(samples), np.float32), before

    return SpeechGate(detector, THRESHOLD)


def test_the_threshold_decides() -> None:
    samples = np.sin(np.arange(RATE, dtype=np.float32))
    assert saying(lambda _: THRESHOLD + 0.01)(samples)
    assert not saying(lambda _: THRESHOLD - 0.01)(samples)


def test_the_detector_gets_the_audio_at_full_level_and_without_offset() -> None:
    seen = []

    def remember(samples: Samples) -> float:
        seen.append(samples)
        return 0.0

    quiet = 1e-3 * np.sin(np.arange(RATE, dtype=np.float32)) + np.float32(0.5)
    assert not saying(remember)(quiet)
    assert all(0.4 < np.abs(samples).max() < 0.6 and abs(samples.mean()) < 0.01 for samples in seen)


@pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 8192, 8193])
def test_every_length_is_heard_to_its_end(detector: SpeechDetector, count: int) -> None:
    samples = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    heard = []
    saying(lambda one: heard.append(one.size) or 0.0)(samples)  # type: ignore[func-returns-value]
    assert count == 1 or sum(heard) >= count
    assert SpeechGate(detector, THRESHOLD)(samples) is False


def test_in_pieces_the_detector_says_what_it_says_of_the_whole(detector: SpeechDetector, beckett: Samples) -> None:
    whole, _ = detector(beckett, NOTHING)
    pieces, heard = [], NOTHING
    for start in range(0, beckett.size, 7 * 512):
        probabilities, heard = detector(beckett[start : start + 7 * 512], heard)
        pieces.append(probabilities)
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)


@pytest.mark.parametrize("hertz", [50, 60])
@pytest.mark.parametrize("seconds", [0.1, 0.3, 1, 3, 10, 30])
def test_hum_that_sounds_like_a_voice_is_none(gate: SpeechGate, hertz: int, seconds: float) -> None:
    times = np.arange(round(seconds * RATE)) / RATE
    sawtooth = sum(np.sin(2 * np.pi * hertz * n * times) / n for n in range(1, 8))
    assert not gate(at_level(sawtooth, -20))


def test_speech_over_hum_is_heard(gate: SpeechGate, recordings: list[Samples]) -> None:
    for samples in recordings:
        times = np.arange(samples.size) / RATE
        assert gate(at_level(samples, -30) + at_level(np.sin(2 * np.pi * 50 * times), -20))
