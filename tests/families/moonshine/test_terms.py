"""Expected terms, on real speech: not made up where they were not said, and the same alone, in company and with drafts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop.engine.family import Emission
from asrloop.engine.options import Draft, Options
from asrloop.families.moonshine.decoding import Moonshine

Array = NDArray[np.float32]
SLOTS = 4
NAMES = (
    "Szczecin",
    "Everett",
    "Tried and True",
    "Faylor",
    "Maddoc",
    "Betterton",
    "Noah",
    "Tyree",
    "Agnes",
    "Evertried",
)


@pytest.fixture(scope="module")
def family(model_repository: Path) -> Moonshine:
    return Moonshine(model_repository / "decoder_loop" / "1", slots=SLOTS, max_audio_seconds=12)


def decoded(family: Moonshine, samples: Sequence[Array], options: Sequence[Options]) -> list[list[int]]:
    """Tokens of utterances side by side."""
    said: list[list[Emission]] = [
        [family.admit(slot, family.encode(each, one), one)]
        for slot, (each, one) in enumerate(zip(samples, options, strict=True))
    ]
    while rows := [slot for slot, each in enumerate(said) if not each[-1].done]:
        for slot, emission in zip(rows, family.step(rows), strict=True):
            said[slot].append(emission)
    found = [[token for emission in each for token in emission.tokens] for each in said]
    for slot, each in enumerate(found):
        family.finish(slot, each)
    return found


def test_a_term_that_was_not_said_is_not_made_up(family: Moonshine, beckett: Array) -> None:
    plain, expecting = decoded(family, [beckett] * 2, [Options(), Options(key_terms=NAMES)])
    assert expecting == plain


@pytest.mark.parametrize("boost", [3.0, 10.0])
def test_drafts_and_company_change_nothing(family: Moonshine, beckett: Array, boost: float) -> None:
    options = Options(key_terms=NAMES, key_terms_boost=boost, word_times=True)
    (alone,) = decoded(family, [beckett], [options])
    drafts = (alone, alone[: len(alone) // 2], [5, 6, 7])
    drafted = [Options(key_terms=NAMES, key_terms_boost=boost, draft=Draft(tokens)) for tokens in drafts]
    assert decoded(family, [beckett] * SLOTS, [options, *drafted]) == [alone] * SLOTS


def test_every_token_that_stands_has_its_evidence(family: Moonshine, beckett: Array) -> None:
    options = Options(key_terms=NAMES, key_terms_boost=10.0, word_times=True)
    found = [family.admit(0, family.encode(beckett, options), options)]
    while not found[-1].done:
        found += family.step([0])
    tokens = [token for emission in found for token in emission.tokens]
    evidence = family.finish(0, tokens).evidence
    assert evidence is not None
    assert len(evidence.weights) == len(tokens) == sum(len(emission.log_probs) for emission in found)


def test_terms_may_be_in_any_script(family: Moonshine) -> None:
    assert family.can_write("Łódź")
    assert family.can_write("東京")
