"""Stable words only grow, and only by what decodings agree on."""

from hypothesis import given
from hypothesis import strategies as st

from asrloop.live.agreement import AGREEING, Agreement


def after(*texts: str) -> Agreement:
    agreement = Agreement()
    for text in texts:
        agreement.take(text)
    return agreement


def test_what_enough_decodings_agree_on_is_stable_but_for_the_last_word() -> None:
    agreement = after(*["it was the best"] * AGREEING)
    assert (agreement.stable, agreement.tail) == (["it", "was", "the"], ["best"])


def test_what_changed_lately_is_not() -> None:
    agreement = after("it has been", *["it was the best"] * (AGREEING - 1))
    assert (agreement.stable, agreement.tail) == (["it"], ["was", "the", "best"])


def test_one_decoding_more_is_needed_than_before() -> None:
    assert after(*["it was the best"] * (AGREEING - 1)).stable == []


def test_nothing_of_a_repetition_becomes_stable_nor_counts() -> None:
    agreement = Agreement()
    for complete in (True, False, *[True] * (AGREEING - 1)):
        agreement.take("no no no no", complete=complete)
    assert agreement.stable == []


def test_the_last_decoding_is_stable_behind_what_is() -> None:
    agreement = after(*["it was the best"] * AGREEING)
    agreement.finish("it is the best of times")
    assert " ".join(agreement.stable) == "it was the best of times"
    assert agreement.tail == []


texts = st.lists(st.lists(st.sampled_from(["a", "b", "c,"]), max_size=6).map(" ".join), max_size=12)


@given(texts, st.sampled_from(["", "a b", "c, c, c, c, c, c, c, c,"]))
def test_stable_words_are_never_taken_back(decodings: list[str], last: str) -> None:
    agreement, before = Agreement(), ""
    for text in decodings:
        agreement.take(text)
        now = " ".join(agreement.stable)
        assert now.startswith(before)
        before = now
    agreement.finish(last)
    assert " ".join(agreement.stable).startswith(before)
