"""A prompt of OpenAI's API: as text for servers that take it, or as the key terms in it, which may be a list or prose."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from asrloop_client.spacing import is_unspaced

MOST_TERMS, _LONGEST_TERM = 100, 64
"""Limits of the servers."""
_LONGEST_PROMPT = 8192
"""Characters that are looked at."""
_LONGEST_PHRASE = 5
"""Words of a part that is taken as it stands; one of more words is prose."""
_PARTS = re.compile("[,;\uff0c\u3001\uff1b\uff1a\u3002\uff01\uff1f]|:\\s")
_LONGEST_UNSPACED = 12
"""Characters of a term in a script without spaces between words; more are prose."""
_MARKS = "\"'`.!?:()[]{}<>*_-\u2013\u2014\u2026\u201c\u201d\u2018\u2019\u00ab\u00bb"
_SENTENCE_ENDS = ".!?:"


def cleaned(prompt: str) -> str:
    """Return a prompt as the servers take it: without control characters but line ends and tabs; "" where nothing is left."""
    kept = "\n\r\t"
    bad = ("Cc", "Cs")
    return "".join(each if each in kept or unicodedata.category(each) not in bad else " " for each in prompt).strip()


def terms_of(prompt: str) -> tuple[str, ...]:
    """Return the first 100 names and words in `prompt`, which any text may be.

    It is split at commas, semicolons, colons, line ends and Chinese marks. A part of up to five words is a term. From a longer one,
    which is prose, only names are taken: words with a capital that do not begin a sentence, neighbours together, and words with
    digits, inner capitals or letters beyond a-z.
    """
    found = (" ".join(term.split()) for term in _found(prompt))
    terms = (term for term in found if len(term) <= _longest(term) and any(map(str.isalnum, term)))
    return tuple(dict.fromkeys(terms))[:MOST_TERMS]


def _longest(term: str) -> int:
    return _LONGEST_UNSPACED if any(map(is_unspaced, term)) else _LONGEST_TERM


def _found(prompt: str) -> Iterator[str]:
    for line in prompt[:_LONGEST_PROMPT].splitlines():
        begins_sentence = True
        for part in _PARTS.split("".join(each if each.isprintable() else " " for each in line)):
            if not (words := part.split()):
                continue
            if len(words) <= _LONGEST_PHRASE:
                yield " ".join(words).strip(_MARKS)
            else:
                yield from _names(words, begins_sentence)
            begins_sentence = words[-1][-1] in _SENTENCE_ENDS


def _names(words: list[str], begins_sentence: bool) -> Iterator[str]:
    """Return the names in prose."""
    name: list[str] = []
    for word in words:
        bare = word.strip(_MARKS)
        if _is_rare(bare) or (bare[:1].isupper() and not begins_sentence and not _is_i(bare)):
            name.append(bare)
        else:
            yield " ".join(name)
            name = []
        begins_sentence = word[-1] in _SENTENCE_ENDS
        if begins_sentence:
            yield " ".join(name)
            name = []
    yield " ".join(name)


def _is_rare(word: str) -> bool:
    """True for words such as GPT-4, iPhone and Łódź."""
    return any(each.isdigit() or (each.isalpha() and not each.isascii()) for each in word) or any(
        each.isupper() for each in word[1:]
    )


def _is_i(word: str) -> bool:
    return re.split("['\u2019]", word)[0] == "I"
