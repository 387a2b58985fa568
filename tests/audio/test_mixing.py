"""Channels are mixed; where they cancel each other out the loudest one is taken. The server and the client's player do the same."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from asrloop_client.live import mixing as of_the_client
from numpy.typing import NDArray

from asrloop import audio
from asrloop.audio import mixing
from tests.audio import zoo

Samples = NDArray[np.float32]
RATE = 16_000
BOTH = pytest.mark.parametrize("mixer", [mixing.Mixer, of_the_client.Mixer])


def mixed(mixer: Callable[[int], Any], channels: Samples, block: int) -> Samples:
    mix = mixer(RATE)
    return np.concatenate([mix(channels[start : start + block]) for start in range(0, len(channels), block)])


@BOTH
@pytest.mark.parametrize("offset", [0.0, 0.1])
@pytest.mark.parametrize("block", [1_600, 65_536, 777])
def test_opposite_phase_is_heard(mixer: Callable[[int], Any], block: int, offset: float, beckett: Samples) -> None:
    heard = mixed(mixer, np.column_stack([beckett, -0.9 * beckett]) + np.float32(offset), block)
    assert np.corrcoef(heard, beckett)[0, 1] > 0.99


@BOTH
def test_a_stretch_of_opposite_phase_beside_loud_speech_is_heard(mixer: Callable[[int], Any], beckett: Samples) -> None:
    right = beckett.copy()
    right[30_000:34_000] *= -1  # 0.25 s
    heard = mixed(mixer, np.column_stack([beckett, right]), 65_536)
    inside = slice(32_000, 33_600)
    assert np.square(heard[inside]).mean() > 0.9 * np.square(beckett[inside]).mean()
    # What is added at the borders is faint: nothing clicks.
    assert np.abs(np.diff(heard)).max() <= 1.5 * np.abs(np.diff(beckett)).max()


@BOTH
@pytest.mark.parametrize("channels", [2, 8])
def test_other_channels_that_are_silent_or_different_change_nothing(
    mixer: Callable[[int], Any], channels: int, beckett: Samples
) -> None:
    noise = np.random.default_rng(0).normal(size=(beckett.size, channels)).astype(np.float32) * 0.01
    noise[:, 0] += beckett
    heard = mixed(mixer, noise, 65_536)
    assert np.allclose(heard, noise.mean(axis=1), atol=1e-6)
    assert not mixed(mixer, np.zeros((1_000, channels), np.float32), 300).any()


@BOTH
def test_equally_loud_channels_are_not_exchanged(mixer: Callable[[int], Any]) -> None:
    tone = np.sin(np.arange(RATE * 5, dtype=np.float32) / 7)
    wobble = 1 + 0.2 * np.sin(np.arange(RATE * 5) / 4_000)
    heard = mixed(mixer, np.column_stack([tone * wobble, -tone * (2 - wobble)]).astype(np.float32), 20_000)
    assert np.allclose(heard[2_000:], (tone * wobble)[2_000:], atol=1e-6) or np.allclose(
        heard[2_000:], (-tone * (2 - wobble))[2_000:], atol=1e-6
    )


def test_a_file_in_opposite_phase_is_decoded(beckett: Samples) -> None:
    content = zoo.encoded(np.column_stack([beckett, -beckett]), 44_100, "FLAC", "PCM_16")
    heard = audio.from_file(content, max_seconds=30)[: beckett.size]
    assert abs(np.corrcoef(heard, beckett[: heard.size])[0, 1]) > 0.99


def test_the_client_mixes_as_the_server_does() -> None:
    server, client = ([*vars(module.Mixer)] for module in (mixing, of_the_client))
    assert server == client
    assert (mixing.CANCELS, mixing.WINDOWS_A_SECOND) == (of_the_client.CANCELS, of_the_client.WINDOWS_A_SECOND)
