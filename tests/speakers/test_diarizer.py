"""Who spoke when, with networks that a test knows and with the real ones."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from asrloop.audio import SAMPLE_RATE, resampled
from asrloop.engine.attribution import SpeakerTurn
from asrloop.speakers.diarizer import Diarizer
from asrloop.speakers.networks import FIRST, FRAME, FRAMES, SAMPLES, SIZE, OnnxNetworks

Samples = NDArray[np.float32]
TONES = {0.25: 0, 0.5: 1, 0.75: 2}


class KnownNetworks:
    """Stands in for the networks: audio of a constant level is a speaker, and the order of voices differs from window to window."""

    def __init__(self) -> None:
        self.embedded = 0.0

    def activity(self, windows: NDArray[np.float32]) -> NDArray[np.bool_]:
        at = ((FIRST + FRAME / 2 + FRAME * np.arange(FRAMES)) * SAMPLE_RATE).astype(int)
        found = np.zeros((len(windows), FRAMES, 3), bool)
        for active, window in zip(found, windows, strict=True):
            levels = [level for level in dict.fromkeys(np.round(window[at], 2).tolist()) if level in TONES]
            for voice, level in enumerate(levels):
                active[:, voice] = np.abs(window[at] - level) < 0.01
        return found

    def embeddings(self, pieces: Sequence[Samples]) -> NDArray[np.float32]:
        vectors = np.zeros((len(pieces), SIZE), np.float32)
        for vector, samples in zip(vectors, pieces, strict=True):
            self.embedded += samples.size / SAMPLE_RATE
            vector[TONES[float(np.round(np.median(samples), 2))]] = 1
        return vectors


def said(*parts: tuple[float, float]) -> Samples:
    """Join parts, each a level and seconds."""
    return np.concatenate([np.full(int(seconds * SAMPLE_RATE), level, np.float32) for level, seconds in parts])


def heard(
    samples: Samples, networks: KnownNetworks | OnnxNetworks, most: int | None = None, piece: int = SAMPLES
) -> list[SpeakerTurn]:
    diarizer = Diarizer(networks, most)
    for begin in range(0, samples.size, piece):
        diarizer.hear(samples[begin : begin + piece])
    return diarizer.finish()


DIALOGUE = said(
    (0, 1), (0.5, 4), (0, 0.5), (0.25, 6), (0, 1), (0.5, 5), (0, 0.4), (0.75, 8), (0, 2), (0.25, 20), (0, 1.3)
)
TURNS = [(1, 5, 0), (5.5, 11.5, 1), (12.5, 17.5, 0), (17.9, 25.9, 2), (27.9, 47.9, 1)]


def test_turns_are_in_order_and_speakers_numbered_as_they_appear() -> None:
    turns = heard(DIALOGUE, KnownNetworks())
    assert [turn.speaker for turn in turns] == [speaker for _, _, speaker in TURNS]
    for turn, (start, end, _) in zip(turns, TURNS, strict=True):
        assert turn.start == pytest.approx(start, abs=0.05)
        assert turn.end == pytest.approx(end, abs=0.05)


@pytest.mark.parametrize("piece", [777, 48_000, 10_000_000])
def test_the_size_of_the_pieces_does_not_matter(piece: int) -> None:
    assert heard(DIALOGUE, KnownNetworks(), piece=piece) == heard(DIALOGUE, KnownNetworks())


def test_no_more_speakers_than_asked_for() -> None:
    assert {turn.speaker for turn in heard(DIALOGUE, KnownNetworks(), most=2)} == {0, 1}
    assert {turn.speaker for turn in heard(DIALOGUE, KnownNetworks(), most=1)} == {0}
    assert {turn.speaker for turn in heard(DIALOGUE, KnownNetworks(), most=9)} == {0, 1, 2}
    with pytest.raises(ValueError, match=re.escape("speakers is 0: it must be at least 1")):
        Diarizer(KnownNetworks(), 0)


def test_a_long_monologue_is_one_turn_and_little_of_it_is_embedded() -> None:
    networks = KnownNetworks()
    turns = heard(said((0.25, 123)), networks)
    assert [(round(turn.start), round(turn.end), turn.speaker) for turn in turns] == [(0, 123, 0)]
    assert networks.embedded < 15


def test_nothing_said_is_no_turn() -> None:
    assert heard(np.zeros(0, np.float32), KnownNetworks()) == []
    assert heard(np.zeros(700_000, np.float32), KnownNetworks()) == []


def test_a_short_pause_is_part_of_the_turn_unless_somebody_speaks_in_it() -> None:
    turns = heard(said((0.25, 3), (0, 0.5), (0.25, 3), (0, 1.5), (0.25, 3)), KnownNetworks())
    assert [round(turn.end - turn.start, 1) for turn in turns] == [
        pytest.approx(6.5, abs=0.1),
        pytest.approx(3, abs=0.1),
    ]


@pytest.fixture(scope="module")
def networks(model_repository: Path) -> OnnxNetworks:
    return OnnxNetworks(model_repository / "decoder_loop" / "1")


def test_missing_networks_are_named_when_they_are_needed(tmp_path: Path) -> None:
    networks = OnnxNetworks(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"speaker_segmentation\.onnx is missing.*make it with `asrloop models`"
    ):
        networks.check()
    with pytest.raises(FileNotFoundError, match=r"speaker_segmentation\.onnx"):
        heard(DIALOGUE, networks)
    with pytest.raises(FileNotFoundError, match=r"make it with `asrloop models --as large --family FAMILY`"):
        OnnxNetworks(tmp_path / "large_loop" / "1").check()


@pytest.mark.parametrize("damage", [b"", b"\x08\x07 no graph"])
def test_a_damaged_network_is_named_and_how_to_make_it_and_no_folder(tmp_path: Path, damage: bytes) -> None:
    for name in ("speaker_segmentation.onnx", "speaker_embedding.onnx"):
        (tmp_path / name).write_bytes(damage)
    with pytest.raises(
        ValueError, match=r"^speaker_segmentation\.onnx .*delete it.*make it with `asrloop models`"
    ) as told:
        heard(DIALOGUE, OnnxNetworks(tmp_path))
    assert str(tmp_path) not in str(told.value)


def test_pieces_that_are_embedded_together_get_the_vectors_that_each_gets_alone(
    networks: OnnxNetworks, beckett: Samples
) -> None:
    sizes = [6_400, 16_000, 400, 11_200, 6_400, *[16_000] * 17]
    pieces = [beckett[2_000 * number :][:size] for number, size in enumerate(sizes)]
    vectors = networks.embeddings(pieces)
    assert vectors.shape == (len(sizes), SIZE)
    assert np.isfinite(vectors).all()
    alone = np.concatenate([networks.embeddings([piece]) for piece in pieces])
    assert (vectors * alone).sum(axis=1).min() > 0.98, "sums are rounded to integers, in another order perhaps"
    assert networks.embeddings([]).shape == (0, SIZE)


def test_silence_noise_and_music_are_nobody(networks: OnnxNetworks) -> None:
    seconds = np.arange(12 * SAMPLE_RATE) / SAMPLE_RATE
    chords = sum(np.sin(2 * np.pi * 220 * 2 ** (step / 12) * seconds) for step in (0, 4, 7)) * (1 - seconds % 0.5)
    noise = np.random.default_rng(0).normal(0, 0.02, seconds.size)
    for nobody in (0 * seconds, noise, 0.1 * chords):
        assert heard(nobody.astype(np.float32), networks) == []


def test_a_word_alone_is_one_speaker_at_most(networks: OnnxNetworks, beckett: Samples) -> None:
    turns = heard(beckett[8_000:12_800], networks)
    assert {turn.speaker for turn in turns} <= {0}
    assert all(0 <= turn.start < turn.end <= 0.3 for turn in turns)


def test_one_reader_is_one_speaker(networks: OnnxNetworks, beckett: Samples) -> None:
    turns = heard(np.tile(beckett, 5), networks)
    assert {turn.speaker for turn in turns} == {0}


def test_a_couple_on_stage_are_two(networks: OnnxNetworks, assets: Path) -> None:
    recording, rate = soundfile.read(assets / "endgame_nagg_nell.wav", dtype="float32", always_2d=True)
    samples = resampled(recording.mean(axis=1), rate)
    turns = heard(samples, networks)
    assert {turn.speaker for turn in turns} == {0, 1}
    assert sum(one.speaker != other.speaker for one, other in pairwise(turns)) >= 4
    assert {turn.speaker for turn in heard(samples, networks, most=1)} == {0}
