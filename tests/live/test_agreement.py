"""Stable words only grow, and only by what decodings agree on and are sure of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrloop.live.agreement import Agreement


def after(*texts: str, each: float = 1.0) -> Agreement:
    agreement = Agreement()
    for text in texts:
        agreement.take(text.split(), [each] * len(text.split()))
    return agreement


def test_what_three_sure_decodings_agree_on_is_stable_but_for_the_last_word() -> None:
    agreement = after(*["it was the best"] * 3)
    assert (agreement.stable, agreement.tail) == (["it", "was", "the"], ["best"])
    assert after(*["it was the best"] * 2).stable == []


def test_what_changed_lately_is_not() -> None:
    agreement = after("it has been", *["it was the best"] * 2)
    assert (agreement.stable, agreement.tail) == (["it"], ["was", "the", "best"])


def test_what_decodings_are_less_sure_of_needs_more_of_them() -> None:
    assert after(*["it was the best"] * 3, each=0.7).stable == []
    assert after(*["it was the best"] * 6, each=0.7).stable == ["it", "was", "the"]


def test_nothing_behind_an_unsure_word_is_stable() -> None:
    agreement = Agreement()
    for _ in range(5):
        agreement.take(["it", "was", "the", "best", "of", "times"], [1.0, 0.9, 0.3, 1.0, 1.0, 1.0])
    assert agreement.stable == ["it", "was"]


def test_words_and_probabilities_that_do_not_fit_are_a_bug_and_no_silence() -> None:
    with pytest.raises(ValueError, match="zip"):
        Agreement().take(["it", " was", " the"], [1.0, 1.0])


def test_words_without_spaces_become_stable_as_others_do() -> None:
    agreement = Agreement()
    for _ in range(3):
        agreement.take(["今", "天", "好"], [1.0] * 3)
    assert ("".join(agreement.stable), "".join(agreement.tail)) == ("今天", "好")


def test_nothing_of_a_repetition_becomes_stable_nor_counts() -> None:
    agreement = after(*["no no no no"] * 2)
    agreement.take(["no", "no", "no", "no"], None)
    agreement.take(["no", "no", "no", "no"], [1.0] * 4)
    assert agreement.stable == []


def test_the_last_decoding_is_stable_behind_what_is() -> None:
    agreement = after(*["it was the best"] * 3)
    agreement.finish(["it", "is", "the", "best", "of", "times"])
    assert " ".join(agreement.stable) == "it was the best of times"
    assert agreement.tail == []


texts = st.lists(st.lists(st.sampled_from(["a", "b", "c,"]), max_size=6).map(" ".join), max_size=12)


@given(texts, st.sampled_from([0.5, 0.9, 1.0]), st.sampled_from(["", "a b", "c, c, c, c, c, c, c, c,"]))
def test_stable_words_are_never_taken_back(decodings: list[str], each: float, last: str) -> None:
    agreement, before = Agreement(), ""
    for text in decodings:
        agreement.take(text.split(), [each] * len(text.split()))
        now = " ".join(agreement.stable)
        assert now.startswith(before)
        before = now
    agreement.finish(last.split())
    assert " ".join(agreement.stable).startswith(before)
