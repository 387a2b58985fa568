"""Words of languages that put spaces between them, as spans of tokens."""

from collections.abc import Sequence

from asrloop.engine.family import Word


def words_between_spaces(spelled: Sequence[str]) -> list[Word]:
    """Return the words of a text that is spelled token by token: what stands between spaces.

    ``spelled`` holds what each token adds to the text; a character that takes several tokens is added by the last of them. Tokens
    without a visible character belong to the word before, a space of its own to the word behind.
    """
    found: list[tuple[int, int, str]] = []
    first: int | None = 0
    last, text = -1, ""
    for token, added in enumerate(spelled):
        for character in added:
            if not character.isspace():
                first = token if first is None else first
                last, text = token, text + character
                continue
            if text and first is not None:
                found.append((first, last, text))
                first, text = None, ""
            if first is None and token > last:
                first = token
    if text and first is not None:
        found.append((first, last, text))
    starts = [*(first for first, _, _ in found), len(spelled)]
    return [
        Word(first, max(last + 1, starts[number + 1]), f" {text}" if number else text)
        for number, (first, last, text) in enumerate(found)
    ]
