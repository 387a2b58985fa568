"""When words were spoken, on real speech: in their sounds, alone and with drafts, and the text is unchanged by asking."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop.engine.options import Draft, Options
from asrloop.families.moonshine.decoding import Moonshine

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def family(model_repository: Path) -> Moonshine:
    return Moonshine(model_repository / "decoder_loop" / "1", slots=4, max_audio_seconds=12)


def decoded(family: Moonshine, samples: Array, options: Options) -> tuple[list[int], Array | None]:
    """Tokens, and how much each attended to each frame."""
    found = [family.admit(0, family.encode(samples), options)]
    while not found[-1].done:
        found += family.step([0])
    tokens = [token for emission in found for token in emission.tokens]
    evidence = family.finish(0, tokens).evidence
    return tokens, None if evidence is None else evidence.weights


def test_nobody_who_did_not_ask_pays(family: Moonshine, beckett: Array) -> None:
    tokens, weights = decoded(family, beckett, Options())
    assert weights is None
    assert decoded(family, beckett, Options(word_times=True))[0] == tokens


def test_a_draft_gives_the_same_evidence(family: Moonshine, beckett: Array) -> None:
    tokens, weights = decoded(family, beckett, Options(word_times=True))
    again, drafted = decoded(family, beckett, Options(word_times=True, draft=Draft(tokens[:9], 4)))
    assert again == tokens
    assert weights is not None
    assert drafted is not None
    np.testing.assert_allclose(drafted, weights, atol=1e-5)


def test_evidence_goes_forward_in_the_audio(family: Moonshine, beckett: Array) -> None:
    _, weights = decoded(family, beckett, Options(word_times=True))
    assert weights is not None
    middles = (weights * np.arange(weights.shape[1])).sum(axis=1) / weights.sum(axis=1)
    assert np.mean([before < after for before, after in pairwise(middles)]) > 0.75
