"""A transducer prefers expected terms, in any company, split or whole, as if what was taken back had never been said."""

from collections.abc import Sequence
from pathlib import Path

import jiwer
import pytest

from asrloop.engine.family import Emission
from asrloop.engine.options import Options
from asrloop.families.transducer.greedy import Transducer
from tests.families.conftest import Samples
from tests.families.transducer.conftest import SLOTS, TINY, Open


def tokens(family: Transducer, utterances: Sequence[Samples], options: Options, slots: int) -> list[list[int]]:
    """Of each utterance, ``slots`` of them side by side."""
    found: list[list[int]] = []
    for first in range(0, len(utterances), slots):
        group = utterances[first : first + slots]
        said: list[list[Emission]] = [
            [family.admit(slot, family.encode(one, options), options)] for slot, one in enumerate(group)
        ]
        while rows := [slot for slot in range(len(group)) if not said[slot][-1].done]:
            for slot, emission in zip(rows, family.step(rows), strict=True):
                said[slot].append(emission)
        found += [[token for emission in each for token in emission.tokens] for each in said]
        for slot, each in enumerate(found[first:]):
            family.finish(slot, each)
    return found


@pytest.fixture(params=["small_tdt", "small_rnnt"])
def directory(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def some_terms(family: Transducer) -> tuple[str, ...]:
    """Made of the model's own pieces, so that random weights often come near them."""
    pieces = [piece.replace("\u2581", "") for piece in family.rules.vocabulary if not piece.startswith("<")]
    return tuple("".join(pieces[at : at + 3]) for at in range(0, 24, 3) if "".join(pieces[at : at + 3]).isalnum())


@pytest.mark.parametrize("boost", [1.0, 10.0])
def test_in_company_as_alone_and_split_as_whole(
    directory: Path, boost: float, open_directory: Open, cuts: list[Samples]
) -> None:
    family, whole = open_directory(directory), open_directory(directory, {"split": False})
    options = Options(key_terms=some_terms(family), key_terms_boost=boost)
    assert options.key_terms
    alone = tokens(family, cuts[:16], options, slots=1)
    assert tokens(family, cuts[:16], options, slots=SLOTS) == alone
    assert tokens(whole, cuts[:16], options, slots=SLOTS) == alone


def test_terms_that_never_fit_change_nothing(directory: Path, open_directory: Open, cuts: list[Samples]) -> None:
    family = open_directory(directory)
    options = Options(key_terms=some_terms(family), key_terms_boost=0.0)
    assert tokens(family, cuts[:16], options, SLOTS) == tokens(family, cuts[:16], Options(), SLOTS)


def test_words_that_are_expected_and_said_are_understood(
    open_directory: Open, synthetic: list[tuple[str, Samples]]
) -> None:
    family = open_directory(TINY)
    words = {word for text, _ in synthetic for word in text.split()}
    options = Options(key_terms=tuple(sorted(words)))
    heard = tokens(family, [samples for _, samples in synthetic], options, SLOTS)
    assert jiwer.wer([text for text, _ in synthetic], [family.text(one) for one in heard]) < 0.05
