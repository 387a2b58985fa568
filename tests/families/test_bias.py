"""Terms are preferred within their cost, and taken back when they turn out not to be said."""

from collections.abc import Mapping

import numpy as np
import pytest

from asrloop.families.bias import Bias
from asrloop.families.text.terms import Pieces, Terms, TermsOf, casings

PIECES = [
    "",
    " the",
    " sh",
    "c",
    "in",
    "z",
    "e",
    " S",
    "s",
    " shed",
    " in",
    ".",
    "(",
    "S",
    "Szczecin",
    "ed",
    " szczecin",
    "s",
]
TOKEN = {piece: token for token, piece in enumerate(PIECES)}
EOS = 0


def biased(*terms: str, boost: float = 3.0) -> Bias:
    continues = np.array([piece[:1].isalnum() for piece in PIECES])
    ends = np.array([piece[-1:].isalnum() for piece in PIECES])
    is_text = np.array([piece != "" for piece in PIECES])
    return Bias(Terms(terms, Pieces([piece.encode() for piece in PIECES])), boost, continues, ends, is_text)


def said(bias: Bias, *steps: Mapping[str, float]) -> list[str]:
    """What is said when the model thinks so much, in nats, of some pieces in each step; of all others nothing."""
    found: list[str] = []
    for step in steps:
        log_probs = np.full(len(PIECES), -40.0, np.float32)
        for piece, value in step.items():
            log_probs[TOKEN[piece]] = value
        chosen = bias.choose(int(log_probs.argmax()), log_probs)
        assert chosen.taken_back <= len(found)
        del found[len(found) - chosen.taken_back :]
        found.append(PIECES[chosen.token])
    return found


SURE = -0.1
WAYS = (
    {" sh": SURE, " S": -2.0},
    {"e": SURE, "z": -0.7},
    {"c": SURE},
    {"z": SURE},
    {"e": SURE},
    {"c": SURE},
    {"in": SURE},
)


def test_a_term_is_said_where_it_is_nearly_as_probable() -> None:
    assert "".join(said(biased("Szczecin"), *WAYS)) == " Szczecin"
    assert "".join(said(biased(), *WAYS))[:3] == " sh"


def test_the_model_says_a_term_by_itself_at_no_cost() -> None:
    bias = biased("Szczecin", boost=0.0)
    assert "".join(said(bias, *({piece: SURE} for piece in (" S", "z", "c", "z", "e", "c", "in")))) == " Szczecin"


def test_a_term_that_costs_too_much_is_taken_back_and_the_models_own_token_stands() -> None:
    assert said(biased("Szczecin"), {" sh": SURE, " S": -2.0}, {"ed": SURE, "z": -9.0}) == [" sh"]


def test_a_term_that_goes_on_into_another_word_is_taken_back() -> None:
    assert said(biased("in"), {" the": SURE, " in": -2.0}, {"ed": SURE}) == [" the"]
    assert said(biased("in"), {" the": SURE, " in": -2.0}, {".": SURE}) == [" in", "."]


def test_what_is_unsure_is_known_until_it_is_decided() -> None:
    bias = biased("Szczecin")
    said(bias, *WAYS[:1])
    assert bias.unsure == 1
    said(bias, *WAYS[1:])
    assert bias.unsure == 7
    said(bias, {".": SURE})
    assert bias.unsure == 0


def test_a_word_may_begin_without_a_space_behind_a_mark() -> None:
    assert said(biased("Szczecin"), {"(": SURE}, {"e": SURE, "Szczecin": -2.0}) == ["(", "Szczecin"]
    assert said(biased("Szczecin"), {" the": SURE}, {"e": SURE, "Szczecin": -2.0}) == [" the", "e"]


def test_the_probabilities_are_those_of_the_model() -> None:
    bias = biased("Szczecin")
    log_probs = np.full(len(PIECES), -40.0, np.float32)
    log_probs[TOKEN[" sh"]], log_probs[TOKEN[" S"]] = -0.1, -2.0
    assert bias.choose(TOKEN[" sh"], log_probs).log_prob == pytest.approx(-2.0)


def test_no_list_of_terms_makes_a_row_slow() -> None:
    bias = biased("Szczecin")
    tempting, sure = (np.full(len(PIECES), -40.0, np.float32) for _ in range(2))
    tempting[TOKEN[" sh"]], tempting[TOKEN[" S"]], sure[TOKEN["ed"]] = -0.1, -2.0, -0.1
    tried = 0
    for _ in range(200):
        bias.choose(TOKEN[" sh"], tempting)
        tried += bias.choose(TOKEN["ed"], sure).taken_back
    assert 0 < tried < 30


def test_no_term_begins_where_the_model_says_nothing_more() -> None:
    assert said(biased("in"), {" the": SURE}, {"": SURE, " in": -2.0}) == [" the", ""]
    assert "".join(said(biased("Szczecin"), *WAYS[:-1], {"": SURE, "in": -0.3})) == " Szczecin", (
        "one that began goes on"
    )


def test_casings_and_what_cannot_be_written() -> None:
    assert casings("new York") == {"new York", "new york", "NEW YORK", "New York"}
    assert "O'Brien" in casings("O\u2019Brien"), "word processors write other apostrophes than models"
    pieces = Pieces([b"a", b"bc", b" d"])
    assert pieces.spells(b"abc d")
    assert not pieces.spells(b"ab")


def test_of_equal_pieces_the_later_one_is_used() -> None:
    assert list(Pieces([piece.encode() for piece in PIECES]).beginnings(b"s")) == [(17, 1)]


def test_a_term_may_stand_anywhere_in_a_script_without_spaces() -> None:
    pieces = ["", "\u6211", "\u53bb", "\u53d6", "\u6210", "\u57ce", "\u90fd", "\u3002"]
    terms = TermsOf([piece.encode() for piece in [*pieces, " "]])
    bias = Bias(terms(("\u6210\u90fd",)), 3.0, *terms.edges)
    steps = [{1: SURE}, {2: SURE}, {5: SURE, 4: -2.0}, {6: SURE}, {3: SURE}]
    found: list[str] = []
    for step in steps:
        log_probs = np.full(len(pieces) + 1, -40.0, np.float32)
        log_probs[[*step]] = [*step.values()]
        chosen = bias.choose(int(log_probs.argmax()), log_probs)
        assert not chosen.taken_back
        found.append(pieces[chosen.token])
    assert "".join(found) == "\u6211\u53bb\u6210\u90fd\u53d6"
